/* Matrix products. */

#include "program.h"

static void one_product(void) {
    enum { M = 5, N = 19, K = 33, STRIDE = N + 3 };
    float a[M * K], w[N * K], t[K * N], bias[N], residual[M * N], c[M * STRIDE], again[M * STRIDE];
    fill(a, M * K, 1), fill(w, N * K, 2), fill(bias, N, 3), fill(residual, M * N, 4);
    for (int j = 0; j < N; j++)
        for (int p = 0; p < K; p++) t[p * N + j] = w[j * K + p];
    gristmill_matrix ma = matrix(a, M, K, K), mw = matrix(w, N, K, K), mt = matrix(t, K, N, N);
    gristmill_matrix mr = matrix(residual, M, N, N), mc = matrix(c, M, N, STRIDE), md = matrix(again, M, N, STRIDE);
    gristmill_gemm_options options = {2.0f, 0.0f, bias, GRISTMILL_RELU, &mr, 0};
    gristmill_workspace *workspace = gristmill_workspace_new();
    gristmill_packed *packed = NULL;

    for (int i = 0; i < M * STRIDE; i++) c[i] = again[i] = 77.0f;
    CHECK(gristmill_gemm(&ma, &mw, 1, &mc, &options, workspace) == GRISTMILL_OK);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0.0;
            for (int p = 0; p < K; p++) sum += (double)a[i * K + p] * w[j * K + p];
            double y = 2.0 * sum + bias[j];
            CHECK(near(c[i * STRIDE + j], (y > 0.0 ? y : 0.0) + residual[i * N + j]));
        }
        for (int j = N; j < STRIDE; j++) CHECK(c[i * STRIDE + j] == 77.0f);
    }
    /* The same bits from a packed weight, and from the weight the other way round, on one thread and without a
     * workspace. */
    CHECK(gristmill_pack(&mw, 1, &packed) == GRISTMILL_OK && packed != NULL);
    CHECK(gristmill_gemm_packed(&ma, packed, &md, &options, workspace) == GRISTMILL_OK);
    CHECK(memcmp(c, again, sizeof c) == 0);
    options.serial = 1;
    CHECK(gristmill_gemm(&ma, &mt, 0, &md, &options, NULL) == GRISTMILL_OK);
    CHECK(memcmp(c, again, sizeof c) == 0);

    /* Mistakes leave everything as it was. */
    CHECK(gristmill_gemm(NULL, &mw, 1, &md, NULL, NULL) == GRISTMILL_NULL_POINTER);
    CHECK(strcmp(gristmill_error_message(), "a is null") == 0);
    CHECK(gristmill_gemm(&ma, &mw, 0, &md, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(strstr(gristmill_error_message(), "33") != NULL);
    CHECK(gristmill_gemm(&ma, &mw, 1, &ma, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(gristmill_gemm_packed(&ma, NULL, &md, NULL, NULL) == GRISTMILL_NULL_POINTER);
    gristmill_matrix nowhere = matrix(NULL, M, N, STRIDE), narrow = matrix(again, M, N, N - 1), huge = md;
    huge.rows = (size_t)-1;
    CHECK(gristmill_gemm(&ma, &mw, 1, &nowhere, NULL, NULL) == GRISTMILL_NULL_POINTER);
    CHECK(gristmill_gemm(&ma, &mw, 1, &narrow, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(gristmill_gemm(&ma, &mw, 1, &huge, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    md.type = 9;
    CHECK(gristmill_gemm(&ma, &mw, 1, &md, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    md.type = GRISTMILL_F32;
    options.activation = 9;
    CHECK(gristmill_gemm(&ma, &mw, 1, &md, &options, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(gristmill_pack(&mw, 1, NULL) == GRISTMILL_NULL_POINTER);
    CHECK(memcmp(c, again, sizeof c) == 0);

    /* Nothing times nothing: k = 0 gives zeros, and empty outputs need no memory. */
    gristmill_matrix a0 = matrix(NULL, M, 0, 0), b0 = matrix(NULL, 0, N, N), none = matrix(NULL, 0, N, N);
    CHECK(gristmill_gemm(&a0, &b0, 0, &mc, NULL, NULL) == GRISTMILL_OK && c[0] == 0.0f && c[N] == 77.0f);
    gristmill_matrix no_rows = matrix(NULL, 0, K, K);
    CHECK(gristmill_gemm(&no_rows, &mt, 0, &none, NULL, NULL) == GRISTMILL_OK);

    gristmill_packed_free(packed), gristmill_packed_free(NULL);
    gristmill_workspace_free(workspace), gristmill_workspace_free(NULL);
}

static void half_weights(void) {
    enum { N = 3, K = 4 };
    float a[K] = {1.0f, 2.0f, 3.0f, 4.0f}, wide[N * K], c[N];
    uint16_t w[N * K];
    for (int i = 0; i < N * K; i++) wide[i] = (float)(i % 5) - 2.0f;
    to_bf16(wide, w, N * K);
    gristmill_matrix ma = matrix(a, 1, K, K), mc = matrix(c, 1, N, N), mw = {w, GRISTMILL_BF16, N, K, K};
    CHECK(gristmill_gemm(&ma, &mw, 1, &mc, NULL, NULL) == GRISTMILL_OK);
    for (int j = 0; j < N; j++) {
        float sum = 0.0f;
        for (int p = 0; p < K; p++) sum += a[p] * wide[j * K + p];
        CHECK(c[j] == sum);
    }
}

void test_products(void) {
    one_product();
    half_weights();
}
