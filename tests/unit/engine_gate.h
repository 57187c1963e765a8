/* engine_gate.h - holds an engine's thread in the middle of a pass, where a layer asks for its experts: what a test does
 * meanwhile finds the engine in that state, however long it takes. For one model at a time. */
#ifndef ODMOE_TESTS_ENGINE_GATE_H
#define ODMOE_TESTS_ENGINE_GATE_H

#include "odmoe.h"

/* gate_close_after - let this many passes of the model through, and hold the engine in the next one. Call it before a job is
 * submitted.
 * gate_await - until a pass is held. gate_open - let everything through again. */
void gate_close_after(odmoe_model *m, int passes);
void gate_await(void);
void gate_open(void);

/* gate_prompt_passes - since it was opened, passes with rows of a prompt; *shared: of them, those that had rows of another
 * sequence, too. */
int gate_prompt_passes(int *shared);

#endif
