/*
 * Gristmill for C: CPU kernels for Transformer inference.
 *
 * Results are those of the Rust functions, to the bit, whatever the threads and the instruction set. AVX2 and AVX-512
 * are found at run time; the environment variable GRISTMILL_LEVEL pins a process to portable, avx2, avx512 or avx512bf16.
 * Only portable may give other bits: without a fused multiply-add, as on x86-64, it rounds a product before adding it.
 *
 * All CPUs are used unless a call is serial or the environment variable RAYON_NUM_THREADS says how many. The first call
 * that is not serial may start threads, which the process keeps. A child of fork() lacks them, and would wait for them
 * forever: fork before that call, or make serial calls in the child. Calling threads, and the one that starts others,
 * must have the default floating-point environment: round to nearest, keep subnormal numbers. A program linked with
 * -ffast-math may not have it.
 *
 * Matrices and heads are described by a pointer, sizes and strides; strides count elements. Data pointers are aligned
 * to their elements, and may be null where a size is zero. Memory that is only read is not written, though the pointer
 * type says otherwise.
 *
 * All memory between the first and the last element of an operand, gaps of strides included, must be initialised, that
 * of outputs too. During a call nobody else may write it, nor read that of an output: the outputs of two calls at once
 * must not lie in each other's gaps. That of an output must overlap no other operand; where a function says that an
 * output may be an input, it may be exactly that input. No function keeps a pointer to its operands.
 *
 * Every function that can fail returns a status. Anything but GRISTMILL_OK means that gristmill_error_message() says
 * why and, except for GRISTMILL_INTERNAL, that outputs are untouched.
 *
 * Functions may be called from several threads at once, with a workspace for each.
 */
#ifndef GRISTMILL_H
#define GRISTMILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong. */
typedef int32_t gristmill_status;
enum {
    GRISTMILL_OK = 0,
    GRISTMILL_NULL_POINTER = 1,     /* a pointer that must not be null is */
    GRISTMILL_INVALID_ARGUMENT = 2, /* sizes, strides, types, options or an overlap */
    GRISTMILL_UNSUPPORTED = 3,      /* the instruction set that GRISTMILL_LEVEL names */
    GRISTMILL_OUT_OF_MEMORY = 4,
    GRISTMILL_INTERNAL = 5          /* a mistake in the library */
};

/* Storage types. Arithmetic is in f32; values of 16 bits widen exactly and results are rounded once. bf16 times bf16 is
 * multiplied in pairs, and where queries, keys and values are all bf16, attention rounds its weights to bf16. */
typedef uint32_t gristmill_type;
enum { GRISTMILL_F32 = 0, GRISTMILL_F16 = 1, GRISTMILL_BF16 = 2 };

/* Functions of one value. */
typedef uint32_t gristmill_activation;
enum {
    GRISTMILL_IDENTITY = 0,
    GRISTMILL_RELU = 1,
    GRISTMILL_GELU = 2,      /* by the error function */
    GRISTMILL_GELU_TANH = 3, /* by the hyperbolic tangent */
    GRISTMILL_SILU = 4
};

/* A matrix: element (i, j) is data[i * row_stride + j]. row_stride is at least cols. */
typedef struct gristmill_matrix {
    void *data;
    gristmill_type type;
    size_t rows;
    size_t cols;
    size_t row_stride;
} gristmill_matrix;

/*
 * Heads of queries, keys or values: element (b, s, h, d) is
 * data[b * batch_stride + s * seq_stride + h * head_stride + d]. [B, S, H, D], [B, H, S, D] and a part of a fused
 * projection differ in their strides only.
 */
typedef struct gristmill_heads {
    void *data;
    gristmill_type type;
    size_t batch;
    size_t seq;
    size_t heads;
    size_t dim;
    size_t batch_stride;
    size_t seq_stride;
    size_t head_stride;
} gristmill_heads;

/* The message of the calling thread's last failure, empty before the first; valid until its next failure. */
const char *gristmill_error_message(void);

/* The version of the library, as in "0.1.0". */
const char *gristmill_version(void);

/*
 * Scratch memory, which grows to the largest call's need. One thread at a time may use it. Wherever a workspace is
 * taken, null stands for one that lasts for the call; null is also what gristmill_workspace_new gives without memory.
 */
typedef struct gristmill_workspace gristmill_workspace;
gristmill_workspace *gristmill_workspace_new(void);
void gristmill_workspace_free(gristmill_workspace *workspace);

/*
 * A right-hand side in the layout that the kernels want: made once per weight, usable by many threads at once. b is
 * [k, n], or, if transposed is not 0, the weight of a linear layer, [out, in] = [n, k].
 */
typedef struct gristmill_packed gristmill_packed;
gristmill_status gristmill_pack(const gristmill_matrix *b, int32_t transposed, gristmill_packed **packed);
/* Says that so many bytes are read in turn, these among them, as all weights of a model are: it decides how a product of
 * few rows reads them, not what it gives. Nobody may use it meanwhile. Unless told, it is all that is read. */
gristmill_status gristmill_packed_set_working_set(gristmill_packed *packed, size_t bytes);
void gristmill_packed_free(gristmill_packed *packed);

/* y = alpha * a b; y = y + beta * c; y = y + bias; y = activation(y); c = y + residual. Left out are: alpha 1, beta 0
 * (c is not read), and what is null. */
typedef struct gristmill_gemm_options {
    float alpha;
    float beta;
    const float *bias; /* n values */
    gristmill_activation activation;
    const gristmill_matrix *residual; /* [m, n], of the type of c */
    int32_t serial;                   /* not 0: the calling thread alone */
} gristmill_gemm_options;

/* c[m, n] = a[m, k] b[k, n], or with b as [n, k] if b_transposed is not 0. Each may have a type of its own. Null
 * options stand for alpha 1 and nothing else. */
gristmill_status gristmill_gemm(const gristmill_matrix *a, const gristmill_matrix *b, int32_t b_transposed,
                                const gristmill_matrix *c, const gristmill_gemm_options *options,
                                gristmill_workspace *workspace);

/* The same with a packed right-hand side, to the bit. */
gristmill_status gristmill_gemm_packed(const gristmill_matrix *a, const gristmill_packed *b, const gristmill_matrix *c,
                                       const gristmill_gemm_options *options, gristmill_workspace *workspace);

/* Matrices of one shape: element (b, i, j) is data[b * batch_stride + i * row_stride + j]. With a batch_stride of 0 an
 * input is one matrix, count times. */
typedef struct gristmill_batch {
    void *data;
    gristmill_type type;
    size_t count;
    size_t rows;
    size_t cols;
    size_t batch_stride;
    size_t row_stride;
} gristmill_batch;

/* gristmill_gemm for every product of a batch, to the bit, in one parallel region. All have the same options. */
gristmill_status gristmill_gemm_batch(const gristmill_batch *a, const gristmill_batch *b, int32_t b_transposed,
                                      const gristmill_batch *c, const gristmill_gemm_options *options,
                                      gristmill_workspace *workspace);

/* The same with one packed right-hand side for all products. */
gristmill_status gristmill_gemm_batch_packed(const gristmill_batch *a, const gristmill_packed *b,
                                             const gristmill_batch *c, const gristmill_gemm_options *options,
                                             gristmill_workspace *workspace);

/*
 * One value for every sequence, query head, query and key; a size of 1 stands for all. Element (b, h, i, j) is
 * data[b * batch_stride + h * head_stride + i * query_stride + j * key_stride].
 */
typedef struct gristmill_scores {
    const void *data;
    size_t batch;
    size_t heads;
    size_t queries;
    size_t keys;
    size_t batch_stride;
    size_t head_stride;
    size_t query_stride;
    size_t key_stride;
} gristmill_scores;

/* Causal masks: query i sees keys 0 to i + offset. */
typedef uint32_t gristmill_causal;
enum {
    GRISTMILL_NOT_CAUSAL = 0,
    GRISTMILL_CAUSAL_BOTTOM_RIGHT = 1, /* an offset of S_k - S_q */
    GRISTMILL_CAUSAL_OFFSET = 2,       /* causal_offsets[0], of any sign */
    GRISTMILL_CAUSAL_PER_BATCH = 3     /* causal_offsets[b] in sequence b */
};

/* A key is hidden where any part of the mask hides it. */
typedef struct gristmill_attention_options {
    float scale;                     /* of the scores; 0 for 1 / sqrt(dim) */
    float softcap;                   /* s = softcap * tanh(s / softcap); 0 for none */
    gristmill_causal causal;
    const ptrdiff_t *causal_offsets; /* null where causal needs none */
    const size_t *key_lengths;       /* keys of each sequence; null for all */
    const gristmill_scores *keep;    /* bytes, 0 where the key is hidden; null for none. Copied unless all are 0 or 1 */
    const gristmill_scores *bias;    /* floats, added to the scores; minus infinity hides the key; null for none */
    int32_t serial;                  /* not 0: the calling thread alone */
} gristmill_attention_options;

/* out = softmax(scale * q k^T + bias) v for every sequence and head. The heads of k and v divide those of q. q and out
 * have one type, k and v may have another. Hidden keys and values are without effect, even if they are NaN; a query that
 * sees no key gives zeros. Null options stand for none of them. */
gristmill_status gristmill_attention(const gristmill_heads *q, const gristmill_heads *k, const gristmill_heads *v,
                                     const gristmill_heads *out, const gristmill_attention_options *options,
                                     gristmill_workspace *workspace);

/*
 * The keys and values of any number of sequences, each of its own length, which a decoder keeps from step to step: of
 * one type, with kv_heads heads of dim elements in a key and value_dim in a value. A new one has no sequences. Several
 * threads may use it at once as long as none changes it.
 */
typedef struct gristmill_kv_cache gristmill_kv_cache;
gristmill_status gristmill_kv_cache_new(gristmill_type type, size_t kv_heads, size_t dim, size_t value_dim,
                                        gristmill_kv_cache **cache);
void gristmill_kv_cache_free(gristmill_kv_cache *cache);

/* How many sequences there are, the tokens of one, and the bytes held, whether in use or kept for later. 0 for what does
 * not exist. */
size_t gristmill_kv_cache_sequences(const gristmill_kv_cache *cache);
size_t gristmill_kv_cache_len(const gristmill_kv_cache *cache, size_t sequence);
size_t gristmill_kv_cache_bytes(const gristmill_kv_cache *cache);

/* Forgets everything, keeps the memory, and starts so many empty sequences. */
gristmill_status gristmill_kv_cache_reset(gristmill_kv_cache *cache, size_t sequences);

/* Makes room for so many more tokens in every sequence. */
gristmill_status gristmill_kv_cache_reserve(gristmill_kv_cache *cache, size_t tokens);

typedef struct gristmill_append_options {
    const size_t *counts; /* of the tokens given, how many each sequence gets, the first ones; null for all */
    int32_t serial;       /* not 0: the calling thread alone */
} gristmill_append_options;

/* Appends the tokens of k[B, n, kv_heads, dim] and v[B, n, kv_heads, value_dim] to the B sequences. k and v have one
 * type, and are rounded to that of the cache. Null options stand for all tokens. */
gristmill_status gristmill_kv_cache_append(gristmill_kv_cache *cache, const gristmill_heads *k, const gristmill_heads *v,
                                           const gristmill_append_options *options);

/* Makes sequence i what sequence parents[i] was, for count sequences, which are all that there are afterwards: beams are
 * forked, exchanged and dropped. Copies no keys and no values. */
gristmill_status gristmill_kv_cache_select(gristmill_kv_cache *cache, const size_t *parents, size_t count);

/* Forgets the tokens of a sequence from len on, if it has that many. */
gristmill_status gristmill_kv_cache_truncate(gristmill_kv_cache *cache, size_t sequence, size_t len);

/* Attention to the keys and values of a cache, which has a sequence for each of q, to the bit as gristmill_attention
 * computes it for each sequence alone: S_k is the sequence's own length. keep and bias have the keys of the longest
 * sequence, of which shorter ones use the first. */
gristmill_status gristmill_attention_cached(const gristmill_heads *q, const gristmill_kv_cache *cache,
                                            const gristmill_heads *out, const gristmill_attention_options *options,
                                            gristmill_workspace *workspace);

typedef struct gristmill_norm_options {
    float eps;          /* added to the variance, or to the mean square; finite and not negative */
    const float *gamma; /* a factor per column, or null */
    const float *beta;  /* a shift per column, or null */
    int32_t serial;     /* not 0: the calling thread alone */
} gristmill_norm_options;

/* y = (x - mean) / sqrt(variance + eps) * gamma + beta, row by row; y may be x. All of one type. Null options stand for
 * an eps of 1e-5 and nothing else. */
gristmill_status gristmill_layer_norm(const gristmill_matrix *x, const gristmill_matrix *y,
                                      const gristmill_norm_options *options);

/* The layer norm of x + residual, which is added in f32. sum receives x + residual, or is null. Where it is null y may be
 * x, as in post-norm models, else sum may be x, as in pre-norm models. */
gristmill_status gristmill_add_layer_norm(const gristmill_matrix *x, const gristmill_matrix *residual,
                                          const gristmill_matrix *y, const gristmill_matrix *sum,
                                          const gristmill_norm_options *options);

/* y = x / sqrt(mean(x^2) + eps) * gamma + beta, otherwise as gristmill_layer_norm. */
gristmill_status gristmill_rms_norm(const gristmill_matrix *x, const gristmill_matrix *y,
                                    const gristmill_norm_options *options);

/* The RMS norm of x + residual, otherwise as gristmill_add_layer_norm. */
gristmill_status gristmill_add_rms_norm(const gristmill_matrix *x, const gristmill_matrix *residual,
                                        const gristmill_matrix *y, const gristmill_matrix *sum,
                                        const gristmill_norm_options *options);

/* y = softmax(x), row by row; y may be x. Both of one type. serial not 0: the calling thread alone. */
gristmill_status gristmill_softmax(const gristmill_matrix *x, const gristmill_matrix *y, int32_t serial);

/* The logarithm of that, which is finite where the quotient would be 0. */
gristmill_status gristmill_log_softmax(const gristmill_matrix *x, const gristmill_matrix *y, int32_t serial);

/* y = activation(x + bias), element by element; y may be x. Both of one type. bias has a float per column, or is null. */
gristmill_status gristmill_bias_activation(const gristmill_matrix *x, const float *bias,
                                           gristmill_activation activation, const gristmill_matrix *y, int32_t serial);

/* out[i] = the column of the largest value of row i, the first of equal ones. NaN is larger than everything. */
gristmill_status gristmill_argmax(const gristmill_matrix *x, size_t *out, int32_t serial);

/* out[i * k] to out[i * k + k - 1] = the columns of the k largest values of row i, the largest first and equal ones in
 * the order of their columns. */
gristmill_status gristmill_top_k(const gristmill_matrix *x, size_t k, size_t *out, int32_t serial);

/* Which row of a table of positions token t gets. */
typedef uint32_t gristmill_position_rows;
enum {
    GRISTMILL_POSITIONS_FROM = 0, /* position + t: the tokens are one sentence, or a part of one */
    GRISTMILL_POSITIONS_ALL = 1,  /* position: one token each of several sentences */
    GRISTMILL_POSITIONS_EACH = 2  /* rows[t] */
};

typedef struct gristmill_embed_options {
    float scale;                           /* of the embedding, not of the position; 0 for 1 */
    const gristmill_matrix *positions;     /* floats, a row per position; null for none */
    gristmill_position_rows position_rows;
    size_t position;
    const uint32_t *rows;                  /* a row for each token; null where none is needed */
    int32_t serial;                        /* not 0: the calling thread alone */
} gristmill_embed_options;

/* Row t of y = scale * table[ids[t]] + position, for a token in each row of y. table[vocabulary, d] and y[tokens, d] may
 * differ in type. Null options stand for the rows of the table as they are. */
gristmill_status gristmill_embed(const gristmill_matrix *table, const uint32_t *ids, const gristmill_matrix *y,
                                 const gristmill_embed_options *options);

#ifdef __cplusplus
}
#endif

#endif
