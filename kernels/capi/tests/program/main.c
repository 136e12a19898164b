/* Calls every part of the program. Exits with 0 if all is well. */

#include "program.h"

int failures = 0;

void fill(float *x, size_t n, unsigned seed) {
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 37 + seed * 11) % 23) / 8.0f - 1.25f;
}

int near(float x, double want) { return fabs((double)x - want) <= 1e-4; }

gristmill_matrix matrix(float *data, size_t rows, size_t cols, size_t row_stride) {
    gristmill_matrix m = {data, GRISTMILL_F32, rows, cols, row_stride};
    return m;
}

gristmill_heads heads(float *data, size_t b, size_t s, size_t h, size_t d) {
    gristmill_heads x = {data, GRISTMILL_F32, b, s, h, d, s * h * d, h * d, d};
    return x;
}

void to_bf16(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        y[i] = (uint16_t)(bits >> 16);
    }
}

void to_f16(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, size;
        memcpy(&bits, &x[i], sizeof bits);
        size = bits & 0x7fffffff;
        /* Exponents are biased by 15, not by 127. */
        y[i] = (uint16_t)((bits >> 16 & 0x8000) | (size == 0 ? 0 : (size - (112u << 23)) >> 13));
    }
}

int main(void) {
    CHECK(strlen(gristmill_error_message()) == 0);
    CHECK(strlen(gristmill_version()) > 0);
    test_products();
    test_attention();
    test_cache();
    test_norms();
    test_rows();
    printf("%d failures\n", failures);
    return failures != 0;
}
