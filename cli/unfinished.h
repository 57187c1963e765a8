/* unfinished.h - a signal that ends the program takes the file with it that is being written.
 *
 * Where the file system knows files without names the kernel does that; where not, and in the moment in which a file gets
 * its name, the program does. */
#ifndef ODMOE_CLI_UNFINISHED_H
#define ODMOE_CLI_UNFINISHED_H

/* unfinished_begin - from now on Ctrl-C and the like remove the file `partial` (odmoe_tensors_partial, odmoe_file_partial),
 * then end the program as they would. One file at a time.
 * unfinished_end - the file is finished or dropped. Without unfinished_begin it does nothing. */
void unfinished_begin(const char *partial);
void unfinished_end(void);

#endif
