#include "server/api/api.h"

#include "server/api/json_write.h"

static void put_model(const struct api *api, struct str name, struct buf *out)
{
    const struct phid_model_info *info = phid_model_info(api->model);
    buf_append_c(out, "{\"id\":");
    json_put_string(out, name);
    buf_append_c(out, ",\"object\":\"model\",\"created\":");
    json_put_int(out, api->created);
    buf_append_c(out, ",\"owned_by\":\"phid\",\"shutdown_date\":null,\"max_model_len\":");
    json_put_int(out, (int64_t)api->context);
    buf_append_c(out, ",\"meta\":{\"architecture\":");
    json_put_string(out, str_of(info->architecture));
    buf_append_c(out, ",\"vocab\":");
    json_put_int(out, (int64_t)info->vocab_size);
    buf_append_c(out, ",\"parameters\":");
    json_put_int(out, (int64_t)info->parameters);
    buf_append_c(out, ",\"file_bytes\":");
    json_put_int(out, (int64_t)info->file_bytes);
    buf_append_c(out, "}}");
}

void api_write_models(const struct api *api, struct buf *out)
{
    buf_append_c(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < api->name_count; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        put_model(api, str_of(api->names[i]), out);
    }
    buf_append_c(out, "]}");
}

enum api_fault api_write_model(const struct api *api, struct str name, struct buf *out,
                               struct api_error *err)
{
    enum api_fault fault = api_check_model(api, name, err);
    if (fault == API_OK) {
        put_model(api, name, out);
    }
    return fault;
}

void api_write_root(const struct api *api, struct buf *out)
{
    buf_append_c(out, "{\"name\":\"phid\",\"version\":");
    json_put_string(out, str_of(phid_version()));
    buf_append_c(out, ",\"model\":");
    json_put_string(out, str_of(api->names[0]));
    buf_append_c(out, ",\"api\":\"/v1\",\"health\":\"/health\"}");
}
