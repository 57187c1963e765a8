/* Endpoints of OpenAI's interface that a server of generative models has no use for: they say so. */
#include "serve.h"

static bool refuse(problem *p, const char *why)
{
    return problem_set(p, 501, "not_supported", NULL, "%s", why);
}

#define REFUSED(name, why)                                                                   \
    static bool name(struct server *s, http_request *request, http_reply *reply, problem *p) \
    {                                                                                        \
        return refuse(p, why);                                                               \
    }

REFUSED(embeddings,
        "a generative model has no embeddings of use; run an embedding model, with llama-server or infinity")
REFUSED(rerank, "a generative model does not rank texts; run a reranking model, with llama-server or infinity")
REFUSED(audio, "this server has no sound; run whisper.cpp's server for transcriptions")
REFUSED(images, "this server makes no images; run stable-diffusion.cpp or ComfyUI for them")
REFUSED(moderations, "this server judges no texts; run a classifier, or ask the model in a chat")
REFUSED(files, "this server keeps no files; put their text into the messages")
REFUSED(batches,
        "this server keeps no batches; send the requests at once: they wait in its queue and share their reads")

#define ROUTE(path, name)                                     \
    {                                                         \
        NULL, path, #name, name, ROUTE_NO_BODY, ERRORS_OPENAI \
    }

const route unsupported_routes[] = {ROUTE("/v1/embeddings", embeddings),
                                    ROUTE("/v1/rerank", rerank),
                                    ROUTE("/v1/audio/", audio),
                                    ROUTE("/v1/images/", images),
                                    ROUTE("/v1/moderations", moderations),
                                    ROUTE("/v1/files", files),
                                    ROUTE("/v1/files/", files),
                                    ROUTE("/v1/batches", batches),
                                    ROUTE("/v1/batches/", batches),
                                    {0}};
