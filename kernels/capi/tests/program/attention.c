/* Attention. */

#include "program.h"

enum { B = 2, SQ = 3, SK = 5, H = 4, HKV = 2, D = 8 };

static void against_loops(float scale, float softcap) {
    float q[B * SQ * H * D], k[B * SK * HKV * D], v[B * SK * HKV * D], out[B * SQ * H * D] = {0};
    size_t lengths[B] = {5, 2};
    fill(q, B * SQ * H * D, 5), fill(k, B * SK * HKV * D, 6), fill(v, B * SK * HKV * D, 7);
    gristmill_heads mq = heads(q, B, SQ, H, D), mk = heads(k, B, SK, HKV, D), mv = heads(v, B, SK, HKV, D);
    gristmill_heads mo = heads(out, B, SQ, H, D);
    gristmill_attention_options options = {0};
    options.scale = scale, options.softcap = softcap;
    options.causal = GRISTMILL_CAUSAL_BOTTOM_RIGHT, options.key_lengths = lengths;
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
                    s = scale != 0.0f ? scale * s : s / sqrt((double)D);
                    if (softcap != 0.0f) s = softcap * tanh(s / softcap);
                    sum += weights[j] = exp(s);
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

/* The same mask in every way that it can be written: the same bits. */
static void masks(void) {
    float q[B * SQ * H * D], k[B * SK * HKV * D], v[B * SK * HKV * D];
    float out[B * SQ * H * D] = {0}, want[B * SQ * H * D] = {0};
    uint8_t keep[B * SQ * SK], transposed[SK * SQ * B];
    float bias[B * SQ * SK], scores_bias[H * SQ * SK];
    ptrdiff_t offsets[B] = {2, -1};
    fill(q, B * SQ * H * D, 12), fill(k, B * SK * HKV * D, 13), fill(v, B * SK * HKV * D, 14);
    fill(scores_bias, H * SQ * SK, 15);
    for (int b = 0; b < B; b++)
        for (int i = 0; i < SQ; i++)
            for (int j = 0; j < SK; j++) {
                int seen = j <= i + offsets[b], at = (b * SQ + i) * SK + j;
                keep[at] = (uint8_t)(seen ? at + 1 : 0);
                transposed[(j * SQ + i) * B + b] = (uint8_t)seen;
                bias[at] = seen ? 0.0f : -INFINITY;
            }
    gristmill_heads mq = heads(q, B, SQ, H, D), mk = heads(k, B, SK, HKV, D), mv = heads(v, B, SK, HKV, D);
    gristmill_heads mo = heads(out, B, SQ, H, D), mw = heads(want, B, SQ, H, D);
    gristmill_scores dense = {keep, B, 1, SQ, SK, SQ * SK, 0, SK, 1};
    gristmill_scores turned = {transposed, B, H, SQ, SK, 1, 0, B, SQ * B};
    gristmill_scores added = {bias, B, 1, SQ, SK, SQ * SK, 0, SK, 1};
    gristmill_scores by_head = {scores_bias, 1, H, SQ, SK, 0, SQ * SK, SK, 1};
    gristmill_attention_options options[4];
    memset(options, 0, sizeof options);
    options[0].causal = GRISTMILL_CAUSAL_PER_BATCH, options[0].causal_offsets = offsets;
    options[1].keep = &dense, options[2].keep = &turned, options[3].bias = &added;
    CHECK(gristmill_attention(&mq, &mk, &mv, &mw, &options[0], NULL) == GRISTMILL_OK);
    for (int way = 1; way < 4; way++) {
        memset(out, 0, sizeof out);
        CHECK(gristmill_attention(&mq, &mk, &mv, &mo, &options[way], NULL) == GRISTMILL_OK);
        CHECK(memcmp(out, want, sizeof out) == 0);
    }
    for (int d = 0; d < H * D; d++) CHECK(want[SQ * H * D + d] == 0.0f && want[d] != 0.0f);

    /* One offset for all, which is that of the bottom right; a mask of one key for all queries. */
    uint8_t all = 1;
    gristmill_scores everything = {&all, 1, 1, 1, 1, 0, 0, 0, 0};
    gristmill_attention_options offset = {0}, corner = {0};
    offset.causal = GRISTMILL_CAUSAL_OFFSET, offset.causal_offsets = offsets, offset.keep = &everything;
    corner.causal = GRISTMILL_CAUSAL_BOTTOM_RIGHT;
    offset.bias = corner.bias = &by_head;
    CHECK(gristmill_attention(&mq, &mk, &mv, &mw, &corner, NULL) == GRISTMILL_OK);
    CHECK(gristmill_attention(&mq, &mk, &mv, &mo, &offset, NULL) == GRISTMILL_OK);
    CHECK(memcmp(out, want, sizeof out) == 0);
    /* A bias for each head: that head alone, with its own. */
    gristmill_heads one_q = mq, one_out = mo, one_k = mk, one_v = mv;
    memset(out, 0, sizeof out);
    one_q.heads = one_k.heads = one_v.heads = one_out.heads = 1, by_head.heads = 1;
    for (int h = 0; h < H; h++) {
        one_q.data = q + h * D, one_out.data = out + h * D, by_head.data = scores_bias + h * SQ * SK;
        one_k.data = k + h / (H / HKV) * D, one_v.data = v + h / (H / HKV) * D;
        CHECK(gristmill_attention(&one_q, &one_k, &one_v, &one_out, &corner, NULL) == GRISTMILL_OK);
    }
    CHECK(memcmp(out, want, sizeof out) == 0);

    /* Mistakes leave everything as it was. */
    gristmill_attention_options bad = {0};
    gristmill_scores nowhere = {NULL, B, 1, SQ, SK, SQ * SK, 0, SK, 1}, narrow = dense, inside = dense, huge = dense;
    gristmill_scores endless = {keep, 1, 1, 1, (size_t)-1 / 2, 0, 0, 0, 0};
    narrow.keys = SK - 1, inside.data = out, huge.batch_stride = (size_t)-1;
    bad.causal = 9;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "unknown causal mask 9");
    bad.causal = GRISTMILL_CAUSAL_OFFSET;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_NULL_POINTER, "causal_offsets is null");
    bad.causal = GRISTMILL_NOT_CAUSAL, bad.keep = &narrow;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "keys of keep");
    bad.keep = &endless;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "keys of keep");
    bad.keep = &nowhere;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_NULL_POINTER, "keep is null");
    bad.keep = &inside;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "out overlaps keep");
    bad.keep = &huge;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "keep is larger");
    bad.keep = NULL, bad.bias = &inside;
    REFUSED(gristmill_attention(&mq, &mk, &mv, &mo, &bad, NULL), GRISTMILL_INVALID_ARGUMENT, "out overlaps bias");
    CHECK(memcmp(out, want, sizeof out) == 0);
}

void test_attention(void) {
    against_loops(0.0f, 0.0f);
    against_loops(0.75f, 1.5f);
    masks();
}
