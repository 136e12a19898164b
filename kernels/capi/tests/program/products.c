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
    CHECK(gristmill_packed_set_working_set(packed, (size_t)-1) == GRISTMILL_OK);
    CHECK(gristmill_packed_set_working_set(NULL, 1) == GRISTMILL_NULL_POINTER);
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
    float a[K] = {1.0f, 2.0f, 3.0f, 4.0f}, wide[N * K], c[N] = {0};
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

/* The same numbers in each type: f32, f16, bf16. */
typedef struct typed {
    float f32[12];
    uint16_t f16[12], bf16[12];
    gristmill_matrix in[3];
} typed;

/* From numbers that all types have. */
static void in_every_type(typed *x, size_t rows, size_t cols) {
    gristmill_matrix f16 = {x->f16, GRISTMILL_F16, rows, cols, cols};
    gristmill_matrix bf16 = {x->bf16, GRISTMILL_BF16, rows, cols, cols};
    to_f16(x->f32, x->f16, rows * cols), to_bf16(x->f32, x->bf16, rows * cols);
    x->in[0] = matrix(x->f32, rows, cols, cols), x->in[1] = f16, x->in[2] = bf16;
}

/* Every mix of types: the same results. */
static void mixed_types(void) {
    enum { M = 2, N = 3, K = 4 };
    typed a, w, residual, want, c;
    for (int i = 0; i < M * K; i++) a.f32[i] = (float)(i % 3) - 1.0f;
    for (int i = 0; i < N * K; i++) w.f32[i] = (float)(i % 4) - 2.0f;
    for (int i = 0; i < M * N; i++) {
        want.f32[i] = residual.f32[i] = (float)i;
        for (int p = 0; p < K; p++) want.f32[i] += a.f32[i / N * K + p] * w.f32[i % N * K + p];
    }
    in_every_type(&a, M, K), in_every_type(&w, N, K), in_every_type(&residual, M, N), in_every_type(&want, M, N);
    for (int mix = 0; mix < 27; mix++) {
        int out = mix % 3;
        const gristmill_matrix *ma = &a.in[mix / 9], *mw = &w.in[mix / 3 % 3];
        gristmill_gemm_options options = {1.0f, 0.0f, NULL, GRISTMILL_IDENTITY, &residual.in[out], 0};
        memset(c.f32, 0, sizeof c.f32), in_every_type(&c, M, N);
        CHECK(gristmill_gemm(ma, mw, 1, &c.in[out], &options, NULL) == GRISTMILL_OK);
        CHECK(memcmp(c.in[out].data, want.in[out].data, M * N * (out == 0 ? sizeof(float) : sizeof(uint16_t))) == 0);
        options.residual = &residual.in[(out + 1) % 3];
        REFUSED(gristmill_gemm(ma, mw, 1, &c.in[out], &options, NULL), GRISTMILL_INVALID_ARGUMENT, "residual");
    }
}

/* With beta a product is added to what is there. */
static void onto_what_is_there(void) {
    enum { M = 3, N = 5, K = 7 };
    float a[M * K], b[K * N], c[M * N], old[M * N];
    fill(a, M * K, 50), fill(b, K * N, 51), fill(old, M * N, 52), memcpy(c, old, sizeof c);
    gristmill_matrix ma = matrix(a, M, K, K), mb = matrix(b, K, N, N), mc = matrix(c, M, N, N);
    gristmill_gemm_options options = {0};
    options.alpha = 2.0f, options.beta = -0.5f;
    CHECK(gristmill_gemm(&ma, &mb, 0, &mc, &options, NULL) == GRISTMILL_OK);
    for (int i = 0; i < M * N; i++) {
        double sum = 0.0;
        for (int p = 0; p < K; p++) sum += (double)a[i / N * K + p] * b[p * N + i % N];
        CHECK(near(c[i], 2.0 * sum - 0.5 * old[i]));
    }
}

/* Each product of a batch has the bits that it has alone. */
static void batches(void) {
    enum { COUNT = 3, M = 4, N = 19, K = 33, C_STRIDE = M * N + 5 };
    float a[COUNT * M * K], w[COUNT * N * K], bias[N], residual[M * N], c[COUNT * C_STRIDE], want[COUNT * C_STRIDE];
    fill(a, COUNT * M * K, 40), fill(w, COUNT * N * K, 41), fill(bias, N, 42), fill(residual, M * N, 43);
    for (int i = 0; i < COUNT * C_STRIDE; i++) c[i] = want[i] = 77.0f;
    gristmill_batch ba = {a, GRISTMILL_F32, COUNT, M, K, M * K, K}, bw = {w, GRISTMILL_F32, COUNT, N, K, N * K, K};
    gristmill_batch bc = {c, GRISTMILL_F32, COUNT, M, N, C_STRIDE, N};
    gristmill_matrix mr = matrix(residual, M, N, N), first = matrix(w, N, K, K);
    gristmill_gemm_options options = {0.5f, 0.0f, bias, GRISTMILL_GELU, &mr, 0};
    gristmill_packed *packed = NULL;
    CHECK(gristmill_pack(&first, 1, &packed) == GRISTMILL_OK);
    for (int one_weight = 0; one_weight < 2; one_weight++) {
        bw.batch_stride = one_weight ? 0 : N * K;
        for (int b = 0; b < COUNT; b++) {
            gristmill_matrix ma = matrix(a + b * M * K, M, K, K), mw = matrix(w + (one_weight ? 0 : b) * N * K, N, K, K);
            gristmill_matrix mc = matrix(want + b * C_STRIDE, M, N, N);
            CHECK(gristmill_gemm(&ma, &mw, 1, &mc, &options, NULL) == GRISTMILL_OK);
        }
        CHECK(gristmill_gemm_batch(&ba, &bw, 1, &bc, &options, NULL) == GRISTMILL_OK);
        CHECK(memcmp(c, want, sizeof c) == 0);
    }
    for (int b = 0; b < COUNT; b++) memset(c + b * C_STRIDE, 0, M * N * sizeof(float));
    CHECK(gristmill_gemm_batch_packed(&ba, packed, &bc, &options, NULL) == GRISTMILL_OK);
    CHECK(memcmp(c, want, sizeof c) == 0);

    /* Mistakes leave everything as it was. */
    gristmill_batch few = bw, onto_itself = bc, narrow = bc, huge = bc, inside = bc;
    few.count = 2, onto_itself.batch_stride = N, narrow.row_stride = N - 1, huge.batch_stride = (size_t)-1;
    inside.data = a;
    REFUSED(gristmill_gemm_batch(&ba, &few, 1, &bc, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "matrices of b");
    REFUSED(gristmill_gemm_batch(&ba, &bw, 0, &bc, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "33");
    REFUSED(gristmill_gemm_batch(&ba, &bw, 1, &onto_itself, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "overlap");
    REFUSED(gristmill_gemm_batch(&ba, &bw, 1, &narrow, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "row stride of 18");
    REFUSED(gristmill_gemm_batch(&ba, &bw, 1, &huge, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "c is larger");
    REFUSED(gristmill_gemm_batch(&ba, &bw, 1, &inside, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "c overlaps a");
    REFUSED(gristmill_gemm_batch(&ba, NULL, 1, &bc, NULL, NULL), GRISTMILL_NULL_POINTER, "b is null");
    REFUSED(gristmill_gemm_batch_packed(&ba, NULL, &bc, NULL, NULL), GRISTMILL_NULL_POINTER, "b is null");
    REFUSED(gristmill_gemm_batch_packed(NULL, packed, &bc, NULL, NULL), GRISTMILL_NULL_POINTER, "a is null");
    CHECK(memcmp(c, want, sizeof c) == 0);
    gristmill_packed_free(packed);
}

void test_products(void) {
    one_product();
    half_weights();
    mixed_types();
    onto_what_is_there();
    batches();
}
