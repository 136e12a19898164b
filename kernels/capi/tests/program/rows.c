/* Operations on each row, and embedding. */

#include "program.h"

enum { R = 3, N = 70 };

static void softmaxes(void) {
    float x[R * N], y[R * N] = {0}, z[R * N] = {0};
    fill(x, R * N, 8);
    gristmill_matrix mx = matrix(x, R, N, N), my = matrix(y, R, N, N), mz = matrix(z, R, N, N);
    for (int logarithm = 0; logarithm < 2; logarithm++) {
        gristmill_status (*softmax)(const gristmill_matrix *, const gristmill_matrix *, int32_t) =
            logarithm ? gristmill_log_softmax : gristmill_softmax;
        CHECK(softmax(&mx, &my, 1) == GRISTMILL_OK);
        for (int i = 0; i < R; i++) {
            double sum = 0.0;
            for (int j = 0; j < N; j++) sum += exp(x[i * N + j]);
            for (int j = 0; j < N; j++) {
                double log_of = x[i * N + j] - log(sum);
                CHECK(near(y[i * N + j], logarithm ? log_of : exp(log_of)));
            }
        }
        /* In place: the same bits. */
        memcpy(z, x, sizeof z);
        CHECK(softmax(&mz, &mz, 0) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);

        gristmill_matrix shifted = matrix(y + 1, R, N - 1, N), narrow = matrix(y, R, N - 1, N);
        REFUSED(softmax(&mx, NULL, 0), GRISTMILL_NULL_POINTER, "y is null");
        REFUSED(softmax(&mx, &narrow, 0), GRISTMILL_INVALID_ARGUMENT, "columns of y");
        REFUSED(softmax(&narrow, &shifted, 0), GRISTMILL_INVALID_ARGUMENT, "y overlaps x");
        CHECK(memcmp(z, y, sizeof z) == 0);
    }
}

static double activated(gristmill_activation activation, double x) {
    switch (activation) {
    case GRISTMILL_RELU: return x > 0.0 ? x : 0.0;
    case GRISTMILL_GELU: return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    case GRISTMILL_GELU_TANH: return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case GRISTMILL_SILU: return x / (1.0 + exp(-x));
    default: return x;
    }
}

/* The formula's values, and the bits of the activation that a product with the identity ends with. */
static void activations(void) {
    float x[R * N], bias[N], y[R * N] = {0}, want[R * N] = {0}, unit[N * N];
    fill(x, R * N, 30), fill(bias, N, 31), memset(unit, 0, sizeof unit);
    for (int j = 0; j < N; j++) unit[j * N + j] = 1.0f;
    gristmill_matrix mx = matrix(x, R, N, N), my = matrix(y, R, N, N), mw = matrix(want, R, N, N);
    gristmill_matrix mu = matrix(unit, N, N, N);
    for (gristmill_activation activation = 0; activation <= GRISTMILL_SILU; activation++) {
        gristmill_gemm_options options = {1.0f, 0.0f, bias, activation, NULL, 0};
        CHECK(gristmill_gemm(&mx, &mu, 0, &mw, &options, NULL) == GRISTMILL_OK);
        CHECK(gristmill_bias_activation(&mx, bias, activation, &my, 0) == GRISTMILL_OK);
        CHECK(memcmp(y, want, sizeof y) == 0);
        for (int i = 0; i < R * N; i++) CHECK(near(y[i], activated(activation, (double)x[i] + bias[i % N])));
        memcpy(y, x, sizeof y);
        CHECK(gristmill_bias_activation(&my, bias, activation, &my, 1) == GRISTMILL_OK);
        CHECK(memcmp(y, want, sizeof y) == 0);
    }
    CHECK(gristmill_bias_activation(&mx, NULL, GRISTMILL_IDENTITY, &my, 0) == GRISTMILL_OK);
    CHECK(memcmp(y, x, sizeof y) == 0);
    gristmill_matrix one = matrix(bias, 1, N, N);
    REFUSED(gristmill_bias_activation(&mx, bias, 9, &my, 0), GRISTMILL_INVALID_ARGUMENT, "unknown activation 9");
    REFUSED(gristmill_bias_activation(&one, bias, 0, &one, 0), GRISTMILL_INVALID_ARGUMENT, "y overlaps bias");
    REFUSED(gristmill_bias_activation(NULL, bias, 0, &my, 0), GRISTMILL_NULL_POINTER, "x is null");
    CHECK(memcmp(y, x, sizeof y) == 0);
}

static void choices(void) {
    enum { K = 5 };
    float x[R * N];
    size_t largest[R] = {0}, best[R * K] = {0}, other = 7;
    fill(x, R * N, 32);
    x[N + 3] = NAN;
    gristmill_matrix mx = matrix(x, R, N, N), empty = matrix(x, 1, 0, 0);
    CHECK(gristmill_argmax(&mx, largest, 0) == GRISTMILL_OK);
    CHECK(gristmill_top_k(&mx, K, best, 1) == GRISTMILL_OK);
    for (int i = 0; i < R; i++) {
        int taken[N] = {0};
        for (int place = 0; place < K; place++) {
            int want = -1;
            for (int j = 0; j < N; j++) {
                float a = x[i * N + j], b = want < 0 ? 0.0f : x[i * N + want];
                if (!taken[j] && (want < 0 || a > b || (a != a && b == b))) want = j;
            }
            taken[want] = 1;
            CHECK(best[i * K + place] == (size_t)want);
        }
        CHECK(largest[i] == best[i * K]);
    }
    CHECK(largest[1] == 3);
    REFUSED(gristmill_argmax(&mx, NULL, 0), GRISTMILL_NULL_POINTER, "out is null");
    REFUSED(gristmill_argmax(&empty, &other, 0), GRISTMILL_INVALID_ARGUMENT, "columns of x");
    REFUSED(gristmill_top_k(&empty, 1, &other, 0), GRISTMILL_INVALID_ARGUMENT, "0..1");
    REFUSED(gristmill_top_k(&mx, (size_t)-1, &other, 0), GRISTMILL_INVALID_ARGUMENT, "out is larger");
    empty.data = best, empty.cols = 2;
    REFUSED(gristmill_argmax(&empty, best, 0), GRISTMILL_INVALID_ARGUMENT, "out overlaps x");
    CHECK(other == 7);
}

static void embeddings(void) {
    enum { V = 6, P = 8 };
    float table[V * N], places[P * N], y[R * N] = {0}, z[R * N] = {0};
    uint16_t half[V * N];
    uint32_t ids[R] = {4, 0, 4}, rows[R] = {7, 1, 0}, far_id[R] = {0, 6, 0};
    size_t which[3][R] = {{2, 3, 4}, {2, 2, 2}, {7, 1, 0}};
    fill(table, V * N, 33), fill(places, P * N, 34), to_bf16(table, half, V * N);
    gristmill_matrix mt = matrix(table, V, N, N), mp = matrix(places, P, N, N), my = matrix(y, R, N, N);
    gristmill_matrix mh = {half, GRISTMILL_BF16, V, N, N}, mz = matrix(z, R, N, N);
    CHECK(gristmill_embed(&mt, ids, &my, NULL) == GRISTMILL_OK);
    for (int t = 0; t < R; t++) CHECK(memcmp(y + t * N, table + ids[t] * N, N * sizeof(float)) == 0);
    CHECK(gristmill_embed(&mh, ids, &mz, NULL) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);

    gristmill_embed_options options = {3.0f, &mp, GRISTMILL_POSITIONS_FROM, 2, rows, 0};
    for (gristmill_position_rows kind = 0; kind < 3; kind++) {
        options.position_rows = kind;
        CHECK(gristmill_embed(&mt, ids, &my, &options) == GRISTMILL_OK);
        for (int t = 0; t < R; t++)
            for (int j = 0; j < N; j++)
                CHECK(y[t * N + j] == 3.0f * table[ids[t] * N + j] + places[which[kind][t] * N + j]);
    }

    memcpy(z, y, sizeof z);
    gristmill_matrix narrow = matrix(table, V, N - 1, N), inside = matrix(places, R, N, N);
    REFUSED(gristmill_embed(NULL, ids, &my, NULL), GRISTMILL_NULL_POINTER, "table is null");
    REFUSED(gristmill_embed(&mt, NULL, &my, NULL), GRISTMILL_NULL_POINTER, "ids is null");
    REFUSED(gristmill_embed(&mt, far_id, &my, NULL), GRISTMILL_INVALID_ARGUMENT, "6");
    REFUSED(gristmill_embed(&narrow, ids, &my, NULL), GRISTMILL_INVALID_ARGUMENT, "columns of y");
    gristmill_matrix columnless = matrix(table, V, 0, 0), endless = matrix(y, (size_t)-1, 0, 0);
    REFUSED(gristmill_embed(&columnless, ids, &endless, NULL), GRISTMILL_INVALID_ARGUMENT, "ids is larger");
    REFUSED(gristmill_embed(&my, ids, &my, NULL), GRISTMILL_INVALID_ARGUMENT, "y overlaps table");
    REFUSED(gristmill_embed(&mt, ids, &inside, &options), GRISTMILL_INVALID_ARGUMENT, "y overlaps positions");
    options.rows = NULL;
    REFUSED(gristmill_embed(&mt, ids, &my, &options), GRISTMILL_NULL_POINTER, "rows is null");
    options.position_rows = 9;
    REFUSED(gristmill_embed(&mt, ids, &my, &options), GRISTMILL_INVALID_ARGUMENT, "unknown rows of positions 9");
    options.position_rows = GRISTMILL_POSITIONS_FROM, options.position = P - 2;
    REFUSED(gristmill_embed(&mt, ids, &my, &options), GRISTMILL_INVALID_ARGUMENT, "6..9");
    mp.type = GRISTMILL_F16;
    REFUSED(gristmill_embed(&mt, ids, &my, &options), GRISTMILL_INVALID_ARGUMENT, "must be floats");
    CHECK(memcmp(z, y, sizeof z) == 0);
}

void test_rows(void) {
    softmaxes();
    activations();
    choices();
    embeddings();
}
