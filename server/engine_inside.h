/* engine_inside.h - what job.c tells the engine. */
#ifndef ODMOE_SERVER_ENGINE_INSIDE_H
#define ODMOE_SERVER_ENGINE_INSIDE_H

#include "engine.h"

/* engine_wake - look again: something that the engine waits for may have happened. engine_job_cancelled - as job_cancel
 * says; a job that is queued ends within the call. The job may have ended already. Threads: any. */
void engine_wake(engine *e);
void engine_job_cancelled(engine *e, job *j);

#endif
