/* program.h - a grammar compiled to nodes over bytes: a nondeterministic automaton with a stack.
 *
 * Each node says how a text may go on. NODE_BYTES reads one byte, all others none. A rule is called by pushing the node
 * to return to; a rule that ends another one is jumped to instead, so that right recursion needs no stack. Repetitions
 * with numbers are counted on the stack, not written out: x{0,2000} costs what x costs. Characters are compiled to their
 * UTF-8 bytes. A token named by its id is written as a byte that UTF-8 never has and the three bytes of the id. Two such
 * marks: one for any token, one for those without text, which is what free text in front of a trigger takes. */
#ifndef ODMOE_TEXT_GRAMMAR_PROGRAM_H
#define ODMOE_TEXT_GRAMMAR_PROGRAM_H

#include "text/grammar/rules.h"

#define PROGRAM_NODES_MAX (1u << 19)
#define NODE_NONE UINT32_MAX
#define TOKEN_MARK 0xFF          /* begins any token's id */
#define TOKEN_MARK_TEXTLESS 0xFE /* begins the id of a token without text */
#define TEXT_BYTE_MAX 0xFD       /* bytes above it are no text */
#define TOKEN_ID_BYTES 3

typedef enum node_kind {
    NODE_BYTES,  /* first, count: edges; the text goes on with a byte of one of them */
    NODE_SPLIT,  /* first, count: targets; all of them are tried */
    NODE_CALL,   /* first: the rule's node; back: the node to return to, or NODE_NONE for a jump */
    NODE_RETURN, /* the end of a rule or of a repeated part: the stack says where to */
    NODE_REPEAT  /* first: in `repeats` */
} node_kind;

typedef struct program_node {
    uint32_t kind : 3, count : 29;
    uint32_t first;
    uint32_t back; /* NODE_CALL alone */
} program_node;

typedef struct program_edge {
    uint32_t to;
    uint8_t lo, hi;
} program_edge;

typedef struct program_repeat {
    uint32_t least, most; /* most may be REPEAT_UNBOUNDED */
    uint32_t body, exit;  /* nodes */
} program_repeat;

typedef struct program {
    program_node *nodes;
    program_edge *edges;
    uint32_t *targets;
    program_repeat *repeats;
    size_t nodes_count, nodes_capacity, edges_count, edges_capacity, targets_count, targets_capacity, repeats_count,
        repeats_capacity;
    uint32_t start;        /* the node where the grammar begins */
    uint32_t waiting;      /* the node that looks for a trigger, or NODE_NONE */
    uint8_t class_of[256]; /* bytes that no node tells apart have one class */
    uint8_t byte_of[256];  /* a byte of each class */
    uint32_t classes;
    bool has_tokens; /* some node reads a token */
} program;

/* A text or token that begins the constraint; until one has come, everything is allowed, the end too. */
typedef struct grammar_trigger {
    const char *text; /* [length]; not used where token >= 0 */
    size_t length;
    int32_t token;
} grammar_trigger;

typedef struct program_settings {
    const grammar_trigger *triggers; /* [trigger_count] */
    size_t trigger_count;
    bool again;          /* behind the grammar's end the text is free again, up to the next trigger */
    const int32_t *ends; /* [end_count] end tokens: "any token but this one" is none of them */
    size_t end_count;
} program_settings;

#define TRIGGERS_MAX 32
#define TRIGGER_TEXT_MAX 256

/* program_compile - check the rules and compile them. Errors: ERR_FORMAT for left recursion and a root that no finite
 * text meets (*rule is the rule at fault), ERR_RANGE for too many nodes or bad triggers, ERR_MEMORY. */
odmoe_status program_compile(const grammar_rules *g, const program_settings *settings, program *out, uint32_t *rule,
                             odmoe_error *err);
void program_free(program *p);
size_t program_bytes(const program *p);

#endif
