#pragma once

/** Monotonic seconds. */
double het_seconds(void);
