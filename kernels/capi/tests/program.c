/* Every function of gristmill.h against plain loops, and the mistakes that it must notice. Exits with 0 if all is well. */

#include "gristmill.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            printf("line %d: %s: %s\n", __LINE__, #condition, gristmill_error_message()); \
            failures++;                                                           \
        }                                                                         \
    } while (0)

/* Different small numbers. */
static void fill(float *x, size_t n, unsigned seed) {
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 37 + seed * 11) % 23) / 8.0f - 1.25f;
}

static int near(float x, double want) { return fabs((double)x - want) <= 1e-4; }

static gristmill_matrix matrix(float *data, size_t rows, size_t cols, size_t row_stride) {
    gristmill_matrix m = {data, GRISTMILL_F32, rows, cols, row_stride};
    return m;
}

/* [B, S, H, D], dense. */
static gristmill_heads heads(float *data, size_t b, size_t s, size_t h, size_t d) {
    gristmill_heads x = {data, GRISTMILL_F32, b, s, h, d, s * h * d, h * d, d};
    return x;
}

static void products(void) {
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

/* A weight of bf16: the upper halves of floats. */
static void half_weights(void) {
    enum { N = 3, K = 4 };
    float a[K] = {1.0f, 2.0f, 3.0f, 4.0f}, c[N];
    uint16_t w[N * K];
    for (int i = 0; i < N * K; i++) {
        float x = (float)(i % 5) - 2.0f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        w[i] = (uint16_t)(bits >> 16);
    }
    gristmill_matrix ma = matrix(a, 1, K, K), mc = matrix(c, 1, N, N), mw = {w, GRISTMILL_BF16, N, K, K};
    CHECK(gristmill_gemm(&ma, &mw, 1, &mc, NULL, NULL) == GRISTMILL_OK);
    for (int j = 0; j < N; j++) {
        float sum = 0.0f;
        for (int p = 0; p < K; p++) sum += a[p] * ((float)((j * K + p) % 5) - 2.0f);
        CHECK(c[j] == sum);
    }
}

static void attends(void) {
    enum { B = 2, SQ = 3, SK = 5, H = 4, HKV = 2, D = 8 };
    float q[B * SQ * H * D], k[B * SK * HKV * D], v[B * SK * HKV * D], out[B * SQ * H * D];
    size_t lengths[B] = {5, 2};
    fill(q, B * SQ * H * D, 5), fill(k, B * SK * HKV * D, 6), fill(v, B * SK * HKV * D, 7);
    gristmill_heads mq = heads(q, B, SQ, H, D), mk = heads(k, B, SK, HKV, D), mv = heads(v, B, SK, HKV, D);
    gristmill_heads mo = heads(out, B, SQ, H, D);
    gristmill_attention_options options = {0.0f, 0.0f, 1, lengths, 0};
    CHECK(gristmill_attention(&mq, &mk, &mv, &mo, &options, NULL) == GRISTMILL_OK);
    for (int b = 0; b < B; b++)
        for (int i = 0; i < SQ; i++)
            for (int h = 0; h < H; h++) {
                double weights[SK], sum = 0.0;
                int seen = i + SK - SQ + 1 < (int)lengths[b] ? i + SK - SQ + 1 : (int)lengths[b];
                int g = h / (H / HKV);
                for (int j = 0; j < seen; j++) {
                    double s = 0.0;
                    for (int d = 0; d < D; d++)
                        s += (double)q[((b * SQ + i) * H + h) * D + d] * k[((b * SK + j) * HKV + g) * D + d];
                    sum += weights[j] = exp(s / sqrt((double)D));
                }
                for (int d = 0; d < D; d++) {
                    double want = 0.0;
                    for (int j = 0; j < seen; j++) want += weights[j] / sum * v[((b * SK + j) * HKV + g) * D + d];
                    CHECK(near(out[((b * SQ + i) * H + h) * D + d], want));
                }
            }
    lengths[1] = 6;
    CHECK(gristmill_attention(&mq, &mk, &mv, &mo, &options, NULL) == GRISTMILL_INVALID_ARGUMENT);
    mk.heads = mv.heads = 3;
    CHECK(gristmill_attention(&mq, &mk, &mv, &mo, NULL, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(gristmill_attention(&mq, NULL, &mv, &mo, NULL, NULL) == GRISTMILL_NULL_POINTER);
}

static void rows(void) {
    enum { R = 3, N = 70 };
    float x[R * N], residual[R * N], gamma[N], beta[N], y[R * N];
    fill(x, R * N, 8), fill(residual, R * N, 9), fill(gamma, N, 10), fill(beta, N, 11);
    gristmill_matrix mx = matrix(x, R, N, N), mr = matrix(residual, R, N, N), my = matrix(y, R, N, N);
    gristmill_norm_options options = {1e-5f, gamma, beta, 0};
    for (int added = 0; added < 2; added++) {
        CHECK((added ? gristmill_add_layer_norm(&mx, &mr, &my, &options) : gristmill_layer_norm(&mx, &my, &options)) ==
              GRISTMILL_OK);
        for (int i = 0; i < R; i++) {
            double sum[N], mean = 0.0, variance = 0.0;
            for (int j = 0; j < N; j++) mean += sum[j] = x[i * N + j] + (added ? residual[i * N + j] : 0.0);
            mean /= N;
            for (int j = 0; j < N; j++) variance += (sum[j] - mean) * (sum[j] - mean) / N;
            for (int j = 0; j < N; j++)
                CHECK(near(y[i * N + j], (sum[j] - mean) / sqrt(variance + 1e-5) * gamma[j] + beta[j]));
        }
    }
    CHECK(gristmill_softmax(&mx, &my, 1) == GRISTMILL_OK);
    for (int i = 0; i < R; i++) {
        double sum = 0.0;
        for (int j = 0; j < N; j++) sum += exp(x[i * N + j]);
        for (int j = 0; j < N; j++) CHECK(near(y[i * N + j], exp(x[i * N + j]) / sum));
    }
    /* In place: the same bits. */
    float z[R * N];
    gristmill_matrix mz = matrix(z, R, N, N);
    memcpy(z, x, sizeof z);
    CHECK(gristmill_softmax(&mz, &mz, 0) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    memcpy(z, x, sizeof z);
    CHECK(gristmill_add_layer_norm(&mx, &mr, &my, &options) == GRISTMILL_OK);
    CHECK(gristmill_add_layer_norm(&mz, &mr, &mz, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);

    gristmill_matrix shifted = matrix(x + 1, R, N - 1, N), narrow = matrix(x, R, N - 1, N);
    CHECK(gristmill_layer_norm(&narrow, &shifted, NULL) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(strcmp(gristmill_error_message(), "y overlaps x") == 0);
    CHECK(gristmill_layer_norm(&narrow, &my, NULL) == GRISTMILL_INVALID_ARGUMENT);
    options.eps = -1.0f;
    CHECK(gristmill_layer_norm(&mx, &my, &options) == GRISTMILL_INVALID_ARGUMENT);
    CHECK(gristmill_softmax(&mx, NULL, 0) == GRISTMILL_NULL_POINTER);
    CHECK(gristmill_add_layer_norm(&mx, NULL, &my, NULL) == GRISTMILL_NULL_POINTER);
}

int main(void) {
    CHECK(strlen(gristmill_error_message()) == 0);
    CHECK(strlen(gristmill_version()) > 0);
    products();
    half_weights();
    attends();
    rows();
    printf("%d failures\n", failures);
    return failures != 0;
}
