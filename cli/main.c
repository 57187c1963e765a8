#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "continue a text, or answer a question", command_run},
    {"chat", "talk to a model", command_chat},
    {"serve", "answer programs over HTTP, as OpenAI's and Anthropic's servers do", command_serve},
    {"plan", "show how a memory budget would be divided", command_plan},
    {"inspect", "show what a model file holds", command_inspect},
    {"tokenize", "turn a text into token ids", command_tokenize},
    {"detokenize", "turn token ids into text", command_detokenize},
    {"grammar", "compile a grammar or JSON Schema, check a text against it", command_grammar},
    {"template", "print a conversation as a chat template renders it", command_template},
    {"parse", "split a model's output into reasoning, answer and tool calls", command_parse},
    {"logits", "write logits and hidden states to a safetensors file", command_logits},
    {"perplexity", "measure how well a model predicts a text", command_perplexity},
    {"bench", "measure the speed on random tokens or on a text", command_bench},
    {"replay", "run a routing trace through each cache policy", command_replay},
    {"layer", "run one layer with experts on a test case", command_layer},
    {"bench-layer", "measure one layer with random experts", command_bench_layer},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(void)
{
    puts("Usage: odmoe COMMAND [OPTION...]\n"
         "Run Mixture-of-Experts models that do not fit in memory: experts are read from the SSD when they are "
         "needed.\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    puts("\nodmoe COMMAND --help shows a command's options and an example; odmoe --version shows what this build can "
         "do.\n"
         "Example: odmoe run -m models/demo.gguf --ram 16MiB -p \"In the beginning\" -n 40");
}

static void version_line(const char *title, const char *(*at)(int i))
{
    printf("%s:", title);
    for (int i = 0; at(i); i++)
        printf(" %s", at(i));
    putchar('\n');
}

static void version(void)
{
    printf("odmoe %s\n", odmoe_version());
    version_line("kernels", odmoe_kernels_at);
    version_line("io", odmoe_io_at);
    version_line("policies", odmoe_policy_at);
    version_line("families", odmoe_family_at);
}

static int run_command(const char *name, int argc, char **argv)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name))
            return commands[i].run(argc, argv);
    usage_error("%s: no such command; odmoe --help lists them", name);
}

static int run(int argc, char **argv)
{
    const char *name = argv[1];
    bool asks = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "-?") || !strcmp(name, "help");
    if (asks && argc > 2 && argv[2][0] != '-') {
        char option[] = "--help", *shows[] = {argv[2], option, NULL};
        return run_command(argv[2], 2, shows);
    }
    if (asks)
        help();
    else if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        version();
    else
        return run_command(name, argc - 1, argv + 1);
    return STATUS_DONE;
}

int main(int argc, char **argv)
{
    /* The line editor reads letters beyond ASCII in a UTF-8 locale only. This one is the same for everybody, whatever
     * the environment says; where the system lacks it, the person's own may do. LC_CTYPE alone: numbers keep their
     * point. */
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        setlocale(LC_CTYPE, "");
    /* Room for any help, so that its error is met where it is looked for (support.c). */
    static char room[1 << 16];
    if (!isatty(STDOUT_FILENO))
        setvbuf(stdout, room, _IOFBF, sizeof room);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit of a file's size is an error with a message, not the end */
    if (argc < 2)
        usage_error("which command? odmoe --help lists them");
    return output_done(run(argc, argv));
}
