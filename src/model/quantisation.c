#include "model/quantisation.h"

#include <string.h>

static odmoe_status refuse(const char *path, const char *method, const char *which, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: its weights are quantised (quantization_config: quant_method %.32s%s%.64s), which is not read "
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

/* What DeepSeek, Qwen and MiniMax write: E4M3, a scale for 128 x 128 weights. */
static odmoe_status check_fp8(const char *path, config_object q, const char *method, odmoe_error *err)
{
    const char *format;
    odmoe_status status = config_text(q, "fmt", false, "e4m3", &format, err);
    if (status)
        return status;
    if (strcmp(format, "e4m3") && strcmp(format, "float8_e4m3fn"))
        return refuse(path, method, format, err);
    return both(q, "weight_block_size", 128, false)
               ? ODMOE_OK
               : refuse(path, method, "weight_block_size other than [128, 128]", err);
}

/* compressed-tensors describes the weights of each of its groups. NULL: they are read; else what is not. */
static const char *refused_group(config_object w, bool ints, int64_t bits, int64_t size, bool symmetric,
                                 const char *strategy, const char *order)
{
    if (ints) {
        if (bits != 4 || !symmetric)
            return "integers other than symmetric ones of 4 bits";
        if (strcmp(strategy, "group") || size != 32)
            return "integers in groups other than of 32";
        return strcmp(order, "weight") && strcmp(order, "static") && *order ? "actorder" : NULL;
    }
    if (bits == 4)
        return strcmp(strategy, "tensor_group") || size != 16 ? "FP4 in groups other than of 16" : NULL;
    if (bits == 8)
        return strcmp(strategy, "block") || !both(w, "block_structure", 128, false)
                   ? "FP8 with scales of rows or tensors"
                   : NULL;
    return "floats other than of 4 and 8 bits";
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
    status = config_text(w, "type", false, "int", &type, err);
    if (!status)
        status = config_text(w, "strategy", false, "group", &strategy, err);
    if (!status)
        status = config_int(w, "num_bits", false, 0, 64, 8, &bits, err);
    if (!status)
        status = config_int(w, "group_size", false, -1, 1 << 30, 0, &size, err);
    if (!status)
        status = config_bool(w, "symmetric", false, true, &symmetric, err);
    if (status)
        return status;
    const char *which = refused_group(w, !strcmp(type, "int"), bits, size, symmetric, strategy,
                                      json_is_string(order) ? json_string_value(order)
                                      : json_is_true(order) ? "yes"
                                                            : "");
    return which ? refuse(path, method, which, err) : ODMOE_OK;
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
    if (!strcmp(method, "mxfp4"))
        return ODMOE_OK;
    if (!strcmp(method, "fp8"))
        return check_fp8(path, q, method, err);
    if (!strcmp(method, "compressed-tensors"))
        return check_groups(path, q, method, err);
    if (!strncmp(method, "modelopt", 8))
        return strcmp(algorithm, "NVFP4") ? refuse(path, method, algorithm, err) : ODMOE_OK;
    return refuse(path, method, "", err);
}

odmoe_status quantisation_check(const char *path, config_object json, odmoe_error *err)
{
    config_object q;
    odmoe_status status = config_part(json, "quantization_config", &q, err);
    return status || !q.object ? status : check_method(path, q, err);
}
