#pragma once
#include <jansson.h>

/** Values of JSON objects. JSON has no NAN and no infinity: they are null. */

/** The number `key` of an object; NAN without it, or where it is none. object may be NULL. */
double het_json_number(const json_t *object, const char *key);
/** The text `key` of an object, borrowed; "" without it, or where it is none. object may be NULL. */
const char *het_json_text(const json_t *object, const char *key);
/** The number as JSON: null where it is not finite. New; NULL without memory. */
json_t *het_json_real(double value);
/** Set `key` of an object to that. */
void het_json_put(json_t *object, const char *key, double value);
