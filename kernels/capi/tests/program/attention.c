/* Attention. */

#include "program.h"

void test_attention(void) {
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
