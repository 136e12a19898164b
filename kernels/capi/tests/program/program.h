/* What the parts of the program share. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "gristmill.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

extern int failures;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s, line %d: %s: %s\n", __FILE__, __LINE__, #condition, gristmill_error_message());       \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

/* That a call fails with a status and a message that has these words. */
#define REFUSED(call, status, words) CHECK((call) == (status) && strstr(gristmill_error_message(), (words)) != NULL)

/* Different small numbers. */
void fill(float *x, size_t n, unsigned seed);

int near(float x, double want);

gristmill_matrix matrix(float *data, size_t rows, size_t cols, size_t row_stride);

/* [B, S, H, D], dense. */
gristmill_heads heads(float *data, size_t b, size_t s, size_t h, size_t d);

/* The upper halves of floats, which have no more digits. */
void to_bf16(const float *x, uint16_t *y, size_t n);

/* Floats that are 0, or normal numbers of f16. */
void to_f16(const float *x, uint16_t *y, size_t n);

/* The parts: each checks some functions against plain loops or other calls, and the mistakes that they must notice. */
void test_products(void);
void test_attention(void);
void test_cache(void);
void test_norms(void);
void test_rows(void);

#endif
