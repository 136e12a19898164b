/* Layer and RMS norms. */

#include "program.h"

enum { R = 3, N = 70 };

typedef gristmill_status plain_norm(const gristmill_matrix *, const gristmill_matrix *, const gristmill_norm_options *);
typedef gristmill_status added_norm(const gristmill_matrix *, const gristmill_matrix *, const gristmill_matrix *,
                                    const gristmill_matrix *, const gristmill_norm_options *);

static void check_values(const float *x, const float *y, const gristmill_norm_options *options, int has_mean) {
    for (int i = 0; i < R; i++) {
        double mean = 0.0, square = 0.0;
        for (int j = 0; j < N && has_mean; j++) mean += (double)x[i * N + j] / N;
        for (int j = 0; j < N; j++) square += (x[i * N + j] - mean) * (x[i * N + j] - mean) / N;
        for (int j = 0; j < N; j++) {
            double normal = (x[i * N + j] - mean) / sqrt(square + options->eps);
            CHECK(near(y[i * N + j], normal * options->gamma[j] + options->beta[j]));
        }
    }
}

static void norms(plain_norm *plain, added_norm *added, int has_mean) {
    float x[R * N], residual[R * N], gamma[N], beta[N], want_sum[R * N];
    float y[R * N] = {0}, z[R * N] = {0}, sum[R * N] = {0};
    fill(x, R * N, 8), fill(residual, R * N, 9), fill(gamma, N, 10), fill(beta, N, 11);
    gristmill_matrix mx = matrix(x, R, N, N), mr = matrix(residual, R, N, N), my = matrix(y, R, N, N);
    gristmill_matrix mz = matrix(z, R, N, N), ms = matrix(sum, R, N, N), mw = matrix(want_sum, R, N, N);
    gristmill_norm_options options = {1e-5f, gamma, beta, 0};

    CHECK(plain(&mx, &my, &options) == GRISTMILL_OK);
    check_values(x, y, &options, has_mean);
    memcpy(z, x, sizeof z);
    CHECK(plain(&mz, &mz, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    /* Null options are an eps of 1e-5 alone. */
    gristmill_norm_options default_eps = {1e-5f, NULL, NULL, 1};
    CHECK(plain(&mx, &my, NULL) == GRISTMILL_OK && plain(&mx, &mz, &default_eps) == GRISTMILL_OK);
    CHECK(memcmp(z, y, sizeof z) == 0);

    /* With a residual: the norm of the sum, whichever output is x. */
    for (int i = 0; i < R * N; i++) want_sum[i] = x[i] + residual[i];
    CHECK(plain(&mw, &my, &options) == GRISTMILL_OK);
    CHECK(added(&mx, &mr, &mz, NULL, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    memset(z, 0, sizeof z);
    CHECK(added(&mx, &mr, &mz, &ms, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    CHECK(memcmp(sum, want_sum, sizeof sum) == 0);
    memcpy(z, x, sizeof z);
    CHECK(added(&mz, &mr, &mz, NULL, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    memcpy(sum, x, sizeof sum), memset(z, 0, sizeof z);
    CHECK(added(&ms, &mr, &mz, &ms, &options) == GRISTMILL_OK && memcmp(z, y, sizeof z) == 0);
    CHECK(memcmp(sum, want_sum, sizeof sum) == 0);

    /* Mistakes leave everything as it was. */
    gristmill_matrix shifted = matrix(x + 1, R, N - 1, N), narrow = matrix(x, R, N - 1, N), other = my;
    REFUSED(plain(NULL, &my, NULL), GRISTMILL_NULL_POINTER, "x is null");
    REFUSED(plain(&mx, NULL, NULL), GRISTMILL_NULL_POINTER, "y is null");
    REFUSED(plain(&narrow, &shifted, NULL), GRISTMILL_INVALID_ARGUMENT, "y overlaps x");
    REFUSED(plain(&narrow, &my, NULL), GRISTMILL_INVALID_ARGUMENT, "columns of y");
    REFUSED(added(&mx, NULL, &mz, &ms, NULL), GRISTMILL_NULL_POINTER, "residual is null");
    REFUSED(added(&mx, &narrow, &mz, &ms, NULL), GRISTMILL_INVALID_ARGUMENT, "columns of residual");
    REFUSED(added(&mx, &mr, &mz, &mz, NULL), GRISTMILL_INVALID_ARGUMENT, "sum overlaps y");
    REFUSED(added(&mx, &mr, &mz, &mr, NULL), GRISTMILL_INVALID_ARGUMENT, "sum overlaps residual");
    REFUSED(added(&mz, &mr, &mz, &ms, NULL), GRISTMILL_INVALID_ARGUMENT, "y overlaps x");
    REFUSED(added(&ms, &mr, &ms, &ms, NULL), GRISTMILL_INVALID_ARGUMENT, "sum overlaps y");
    other.type = GRISTMILL_F16;
    REFUSED(added(&mx, &mr, &mz, &other, NULL), GRISTMILL_INVALID_ARGUMENT, "different types");
    options.eps = -1.0f;
    REFUSED(added(&mx, &mr, &mz, &ms, &options), GRISTMILL_INVALID_ARGUMENT, "eps");
    CHECK(memcmp(z, y, sizeof z) == 0 && memcmp(sum, want_sum, sizeof sum) == 0);
}

void test_norms(void) {
    norms(gristmill_layer_norm, gristmill_add_layer_norm, 1);
    norms(gristmill_rms_norm, gristmill_add_rms_norm, 0);
}
