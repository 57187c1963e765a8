#include "model/quantisation.h"

#include <stdio.h>
#include <string.h>

static odmoe_status refuse(const char *path, const char *method, const char *which, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: its weights are quantised (quantization_config: quant_method %.32s%s%.96s), which is not read "
                   "from safetensors; use a GGUF file, or the folder before it was quantised",
                   path, method, *which ? ", " : "", which);
}

/* A list of two numbers that are both `n`; a list that is not there counts as `missing`. */
static bool both(config_object object, const char *key, int n, bool missing)
{
    const json_t *list = json_object_get(object.object, key);
    if (!list || json_is_null(list))
        return missing;
    return json_array_size(list) == 2 && json_integer_value(json_array_get(list, 0)) == n &&
           json_integer_value(json_array_get(list, 1)) == n;
}

/* E4M3 by blocks, as DeepSeek, Qwen and MiniMax write it, or, where no block is given, by matrix. */
static odmoe_status check_fp8(const char *path, config_object q, const char *method, odmoe_error *err)
{
    const char *format;
    odmoe_status status = config_text(q, "fmt", false, "e4m3", &format, err);
    if (status)
        return status;
    if (strcmp(format, "e4m3") && strcmp(format, "float8_e4m3fn"))
        return refuse(path, method, format, err);
    return both(q, "weight_block_size", 128, true)
               ? ODMOE_OK
               : refuse(path, method, "weight_block_size other than [128, 128]", err);
}

/* What compressed-tensors says of a group's weights, and is read. `size`: of a group, or either side of a block. */
static const struct {
    const char *type;
    int bits;
    const char *strategy;
    int size;
} read_groups[] = {
    {"float", 8, "block", 128}, {"float", 8, "channel", 0}, {"float", 8, "tensor", 0}, {"float", 4, "tensor_group", 16},
    {"int", 4, "group", 32},    {"int", 4, "group", 64},    {"int", 4, "group", 128},  {"int", 4, "channel", 0},
};

static bool is_read(config_object w, const char *type, int64_t bits, const char *strategy, int64_t size)
{
    for (size_t i = 0; i < sizeof read_groups / sizeof *read_groups; i++) {
        if (strcmp(read_groups[i].type, type) || read_groups[i].bits != bits ||
            strcmp(read_groups[i].strategy, strategy))
            continue;
        bool block = !strcmp(strategy, "block");
        if (!read_groups[i].size ||
            (block ? both(w, "block_structure", read_groups[i].size, false) : read_groups[i].size == size))
            return true;
    }
    return false;
}

static odmoe_status check_group(const char *path, const char *method, config_object group, odmoe_error *err)
{
    config_object w;
    const char *type, *strategy;
    int64_t bits, size;
    bool symmetric;
    odmoe_status status = config_part(group, "weights", &w, err);
    if (status || !w.object)
        return status;
    const json_t *order = json_object_get(w.object, "actorder");
    const char *actorder = json_is_string(order) ? json_string_value(order) : "";
    status = config_text(w, "type", false, "int", &type, err);
    if (!status)
        status = config_int(w, "num_bits", false, 0, 64, 8, &bits, err);
    if (!status)
        status = config_int(w, "group_size", false, -1, 1 << 30, 0, &size, err);
    if (!status) /* not said: it follows from the size, as in compressed-tensors */
        status = config_text(w, "strategy", false,
                             size > 0   ? "group"
                             : size < 0 ? "channel"
                                        : "tensor",
                             &strategy, err);
    if (!status)
        status = config_bool(w, "symmetric", false, true, &symmetric, err);
    if (status)
        return status;
    char which[96];
    snprintf(which, sizeof which, "%.16s weights of %d bits, strategy %.16s, group_size %d", type, (int)bits, strategy,
             (int)size);
    if (!is_read(w, type, bits, strategy, size))
        return refuse(path, method, which, err);
    if (!symmetric)
        return refuse(path, method, "weights that are not symmetric (zero points)", err);
    bool in_order = !*actorder || !strcmp(actorder, "weight") || !strcmp(actorder, "static");
    return in_order && !json_is_true(order) ? ODMOE_OK
                                            : refuse(path, method, "columns in another order (actorder group)", err);
}

static odmoe_status check_groups(const char *path, config_object q, const char *method, odmoe_error *err)
{
    config_object groups;
    const char *key;
    json_t *one;
    odmoe_status status = config_part(q, "config_groups", &groups, err);
    if (status || !groups.object)
        return status;
    json_object_foreach((json_t *)groups.object, key, one)
    {
        if (!status && json_is_object(one))
            status = check_group(path, method, (config_object){one, q.file}, err);
    }
    return status;
}

static odmoe_status check_method(const char *path, config_object q, odmoe_error *err)
{
    const char *method, *algorithm;
    odmoe_status status = config_text(q, "quant_method", false, "unnamed", &method, err);
    if (!status)
        status = config_text(q, "quant_algo", false, "unnamed", &algorithm, err);
    if (status)
        return status;
    if (!strcmp(method, "mxfp4") || !strcmp(method, "fbgemm_fp8"))
        return ODMOE_OK;
    if (!strcmp(method, "fp8"))
        return check_fp8(path, q, method, err);
    if (!strcmp(method, "compressed-tensors"))
        return check_groups(path, q, method, err);
    if (!strncmp(method, "modelopt", 8))
        return strcmp(algorithm, "NVFP4") && strcmp(algorithm, "FP8") ? refuse(path, method, algorithm, err) : ODMOE_OK;
    return refuse(path, method, "", err);
}

odmoe_status quantisation_check(const char *path, config_object json, odmoe_error *err)
{
    config_object q;
    odmoe_status status = config_part(json, "quantization_config", &q, err);
    return status || !q.object ? status : check_method(path, q, err);
}
