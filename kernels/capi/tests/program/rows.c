/* Operations on each row. */

#include "program.h"

void test_rows(void) {
    enum { R = 3, N = 70 };
    float x[R * N], y[R * N], z[R * N];
    fill(x, R * N, 8);
    gristmill_matrix mx = matrix(x, R, N, N), my = matrix(y, R, N, N), mz = matrix(z, R, N, N);
    CHECK(gristmill_softmax(&mx, &my, 1) == GRISTMILL_OK);
    for (int i = 0; i < R; i++) {
        double sum = 0.0;
        for (int j = 0; j < N; j++) sum += exp(x[i * N + j]);
        for (int j = 0; j < N; j++) CHECK(near(y[i * N + j], exp(x[i * N + j]) / sum));
    }
    /* In place: the same bits. */
    memcpy(z, x, sizeof z);
    CHECK(gristmill_softmax(&mz, &mz, 0) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);

    REFUSED(gristmill_softmax(&mx, NULL, 0), GRISTMILL_NULL_POINTER, "y is null");
}
