/* The input is a chat template: what is recognised must render a conversation whose messages stand in it unchanged. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const odmoe_message messages[] = {
        {"system", "Be brief."}, {"user", "one"}, {"assistant", "<think>\nx\n</think>\n\ntwo"}, {"user", "three"}};
    odmoe_error err = {0};
    chat_template c = {0};
    int status = chat_detect((const char *)data, size, &c, &err);
    fuzz_check_error(status, &err);
    for (size_t first = 0; !status && first < 2; first++) {
        chat_rendering r = {0};
        int rendered = chat_render(&c, messages + first, 4 - first, true, "<s>", "</s>", &r, &err);
        fuzz_check_error(rendered, &err);
        if (!rendered && (!memmem(r.text, r.length, "one", 3) || !memmem(r.text, r.length, "three", 5)))
            abort();
        fuzz_touch(r.text, r.length);
        chat_rendering_free(&r);
    }
    chat_template_free(&c);
    return 0;
}
