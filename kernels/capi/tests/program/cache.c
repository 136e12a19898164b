/* A cache of keys and values, against attention over the same keys and values in rows. */

#include "program.h"

enum { B = 2, H = 4, HKV = 2, D = 8, DV = 5, MAX = 70 };

/* Keys and values of B sequences in rows, a query for each, and a cache. */
typedef struct decoder {
    float k[B * MAX * HKV * D], v[B * MAX * HKV * DV], q[B * H * D];
    gristmill_kv_cache *cache;
} decoder;

/* The attention of one query for each sequence is that over rows, where sequence b is what `from[b]` was, and has
 * `lengths[b]` tokens. */
static void check(decoder *d, const size_t *from, const size_t *lengths) {
    float cached[B * H * DV] = {0}, rows[H * DV] = {0};
    gristmill_heads q = heads(d->q, B, 1, H, D), out = heads(cached, B, 1, H, DV);
    gristmill_attention_options options = {0};
    options.causal = GRISTMILL_CAUSAL_BOTTOM_RIGHT;
    CHECK(gristmill_attention_cached(&q, d->cache, &out, &options, NULL) == GRISTMILL_OK);
    for (size_t b = 0; b < B; b++) {
        CHECK(gristmill_kv_cache_len(d->cache, b) == lengths[b]);
        gristmill_heads k = heads(d->k + from[b] * MAX * HKV * D, 1, lengths[b], HKV, D);
        gristmill_heads v = heads(d->v + from[b] * MAX * HKV * DV, 1, lengths[b], HKV, DV);
        q = heads(d->q + b * H * D, 1, 1, H, D), out = heads(rows, 1, 1, H, DV);
        CHECK(gristmill_attention(&q, &k, &v, &out, &options, NULL) == GRISTMILL_OK);
        CHECK(memcmp(rows, cached + b * H * DV, sizeof rows) == 0);
    }
}

/* Tokens from `first` on, the same number for each sequence. */
static gristmill_status append(decoder *d, size_t first, size_t count, const gristmill_append_options *options) {
    gristmill_heads k = heads(d->k + first * HKV * D, B, count, HKV, D);
    gristmill_heads v = heads(d->v + first * HKV * DV, B, count, HKV, DV);
    k.batch_stride = MAX * HKV * D, v.batch_stride = MAX * HKV * DV;
    return gristmill_kv_cache_append(d->cache, &k, &v, options);
}

static void steps(void) {
    static decoder d;
    fill(d.k, B * MAX * HKV * D, 20), fill(d.v, B * MAX * HKV * DV, 21), fill(d.q, B * H * D, 22);
    CHECK(gristmill_kv_cache_new(GRISTMILL_F32, HKV, D, DV, &d.cache) == GRISTMILL_OK && d.cache != NULL);
    CHECK(gristmill_kv_cache_bytes(d.cache) == 0 && gristmill_kv_cache_sequences(d.cache) == 0);
    CHECK(gristmill_kv_cache_reset(d.cache, B) == GRISTMILL_OK && gristmill_kv_cache_sequences(d.cache) == B);
    CHECK(gristmill_kv_cache_reserve(d.cache, MAX) == GRISTMILL_OK);
    size_t bytes = gristmill_kv_cache_bytes(d.cache), both[B] = {0, 1}, counts[B] = {60, 61}, lengths[B] = {60, 61};
    CHECK(bytes >= (size_t)B * MAX * HKV * (D + DV) * sizeof(float));

    /* A prompt, which is longer in the second sequence, then a token at a time, beyond the end of a page. */
    gristmill_append_options options = {counts, 0};
    CHECK(append(&d, 0, 61, &options) == GRISTMILL_OK);
    check(&d, both, lengths);
    for (size_t step = 0; step < 9; step++) {
        gristmill_heads k = heads(d.k + lengths[0] * HKV * D, B, 1, HKV, D);
        gristmill_heads v = heads(d.v + lengths[0] * HKV * DV, B, 1, HKV, DV);
        k.batch_stride = (MAX + 1) * HKV * D, v.batch_stride = (MAX + 1) * HKV * DV;
        CHECK(gristmill_kv_cache_append(d.cache, &k, &v, NULL) == GRISTMILL_OK);
        lengths[0]++, lengths[1]++;
        check(&d, both, lengths);
    }
    CHECK(gristmill_kv_cache_bytes(d.cache) == bytes);

    /* Both beams go on from the second one, and then on their own. */
    size_t second[B] = {1, 1}, swapped[B] = {1, 0}, forked[B] = {70, 70};
    CHECK(gristmill_kv_cache_select(d.cache, second, B) == GRISTMILL_OK);
    check(&d, second, forked);
    CHECK(gristmill_kv_cache_truncate(d.cache, 0, 3) == GRISTMILL_OK);
    CHECK(gristmill_kv_cache_truncate(d.cache, 0, 50) == GRISTMILL_OK);
    forked[0] = 3;
    check(&d, second, forked);
    CHECK(gristmill_kv_cache_select(d.cache, swapped, B) == GRISTMILL_OK);
    forked[0] = 70, forked[1] = 3;
    check(&d, second, forked);

    /* Mistakes leave everything as it was. */
    float out_values[B * H * DV] = {0};
    size_t missing[B] = {0, 2}, too_many[B] = {1, 2}, too_long[B] = {70, 4};
    gristmill_heads q = heads(d.q, B, 1, H, D), out = heads(out_values, B, 1, H, DV), k = heads(d.k, B, 1, HKV, D);
    gristmill_heads v = heads(d.v, B, 1, HKV, DV);
    gristmill_attention_options masked = {0};
    masked.key_lengths = too_long;
    options.counts = too_many;
    REFUSED(gristmill_kv_cache_select(d.cache, missing, B), GRISTMILL_INVALID_ARGUMENT, "2..3");
    REFUSED(gristmill_kv_cache_select(d.cache, NULL, B), GRISTMILL_NULL_POINTER, "parents is null");
    REFUSED(gristmill_kv_cache_truncate(d.cache, 2, 0), GRISTMILL_INVALID_ARGUMENT, "no sequence 2 among 2");
    REFUSED(append(&d, 0, 1, &options), GRISTMILL_INVALID_ARGUMENT, "2");
    REFUSED(gristmill_kv_cache_append(d.cache, &k, &k, NULL), GRISTMILL_INVALID_ARGUMENT, "head size of v");
    REFUSED(gristmill_kv_cache_append(d.cache, NULL, &v, NULL), GRISTMILL_NULL_POINTER, "k is null");
    REFUSED(gristmill_kv_cache_append(NULL, &k, &v, NULL), GRISTMILL_NULL_POINTER, "cache is null");
    REFUSED(gristmill_attention_cached(&q, NULL, &out, NULL, NULL), GRISTMILL_NULL_POINTER, "cache is null");
    REFUSED(gristmill_attention_cached(&q, d.cache, &q, NULL, NULL), GRISTMILL_INVALID_ARGUMENT, "out overlaps q");
    REFUSED(gristmill_attention_cached(&q, d.cache, &out, &masked, NULL), GRISTMILL_INVALID_ARGUMENT, "4");
    v.type = GRISTMILL_F16;
    REFUSED(gristmill_kv_cache_append(d.cache, &k, &v, NULL), GRISTMILL_INVALID_ARGUMENT, "different types");
    k.type = v.type = 9;
    REFUSED(gristmill_kv_cache_append(d.cache, &k, &v, NULL), GRISTMILL_INVALID_ARGUMENT, "unknown type 9");
    check(&d, second, forked);
    gristmill_kv_cache_free(d.cache), gristmill_kv_cache_free(NULL);
}

/* A cache of bf16 rounds what it is given, and is then attention over keys and values of bf16. */
static void half_cache(void) {
    enum { S = 20 };
    float k[S * HKV * D], v[S * HKV * DV], q[H * D], cached[H * DV] = {0}, rows[H * DV] = {0};
    uint16_t half_k[S * HKV * D], half_v[S * HKV * DV];
    fill(k, S * HKV * D, 23), fill(v, S * HKV * DV, 24), fill(q, H * D, 25);
    to_bf16(k, half_k, S * HKV * D), to_bf16(v, half_v, S * HKV * DV);
    gristmill_heads mk = heads(k, 1, S, HKV, D), mv = heads(v, 1, S, HKV, DV), mq = heads(q, 1, 1, H, D);
    gristmill_heads out = heads(cached, 1, 1, H, DV);
    gristmill_kv_cache *cache = NULL;
    CHECK(gristmill_kv_cache_new(GRISTMILL_BF16, HKV, D, DV, &cache) == GRISTMILL_OK);
    CHECK(gristmill_kv_cache_reset(cache, 1) == GRISTMILL_OK);
    CHECK(gristmill_kv_cache_append(cache, &mk, &mv, NULL) == GRISTMILL_OK);
    CHECK(gristmill_attention_cached(&mq, cache, &out, NULL, NULL) == GRISTMILL_OK);
    mk.data = half_k, mv.data = half_v, out.data = rows;
    mk.type = mv.type = GRISTMILL_BF16;
    CHECK(gristmill_attention(&mq, &mk, &mv, &out, NULL, NULL) == GRISTMILL_OK);
    CHECK(memcmp(rows, cached, sizeof rows) == 0);
    gristmill_kv_cache_free(cache);
}

void test_cache(void) {
    gristmill_kv_cache *cache = NULL;
    steps();
    half_cache();
    REFUSED(gristmill_kv_cache_new(9, HKV, D, DV, &cache), GRISTMILL_INVALID_ARGUMENT, "unknown type 9");
    REFUSED(gristmill_kv_cache_new(GRISTMILL_F32, (size_t)-1, D, DV, &cache), GRISTMILL_INVALID_ARGUMENT, "page");
    REFUSED(gristmill_kv_cache_new(GRISTMILL_F32, HKV, D, DV, NULL), GRISTMILL_NULL_POINTER, "cache is null");
    REFUSED(gristmill_kv_cache_reset(NULL, 1), GRISTMILL_NULL_POINTER, "cache is null");
    REFUSED(gristmill_kv_cache_reserve(NULL, 1), GRISTMILL_NULL_POINTER, "cache is null");
    CHECK(cache == NULL && gristmill_kv_cache_sequences(NULL) == 0 && gristmill_kv_cache_len(NULL, 0) == 0);
}
