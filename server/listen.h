/* listen.h - the socket that a server listens on. */
#ifndef ODMOE_SERVER_LISTEN_H
#define ODMOE_SERVER_LISTEN_H

#include <odmoe.h>
#include <stdbool.h>

typedef struct listener {
    int fd;
    bool loopback;   /* reached from this machine alone */
    char where[160]; /* "http://127.0.0.1:8080" or "unix:PATH" */
} listener;

/* listener_open - bind and listen. unix_path, or NULL: host and port (0: any that is free). A socket that a server left behind is replaced.
 * Errors: ERR_IO names the address. listener_close - give it up again; a Unix socket is removed. */
odmoe_status listener_open(const char *unix_path, const char *host, int port, listener *out, odmoe_error *err);
void listener_close(listener *l, const char *unix_path);

#endif
