#include "json.h"

#include <math.h>

double het_json_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *het_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

json_t *het_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

void het_json_put(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, het_json_real(value));
}
