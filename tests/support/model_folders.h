/* model_folders.h - Hugging Face folders derived from goldens. Programs that use it link format_files as well. */
#ifndef ODMOE_TESTS_MODEL_FOLDERS_H
#define ODMOE_TESTS_MODEL_FOLDERS_H

/* changed_folder - a folder under temp_path with the weights of a golden (its path in the tests' data, "models/mixtral")
 * and its config.json, changed by `members` (JSON; null removes). */
const char *changed_folder(const char *model, const char *members);

#endif
