//! Attention against results in f64 of an independent implementation.

use gristmill_attention::{AttentionOptions, attention};
use gristmill_core::{Causal, HeadsMut, HeadsRef, Mask, ScoresRef, Workspace};
use gristmill_simd::{Dtype, Element, bf16, f16};
use gristmill_testkit::{
    assert_bits_eq,
    compare::{assert_within, rounding},
    golden::{self, Tensor, Tensors, Value},
    sweep,
};

/// A case: heads lie apart, `[B, H, S, D]`.
struct Case {
    id: String,
    /// `[B, H, S_q, S_k, D]`.
    sizes: [usize; 5],
    scale: f64,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f64>,
    keep: Option<Tensor<bool>>,
    bias: Option<Tensor<f32>>,
    kind: String,
}

impl Case {
    fn read(case: &Value, tensors: &Tensors) -> Self {
        let id = case["id"].as_str().unwrap();
        let kind = case["mask"].as_str().unwrap();
        let name = |part| format!("{id}.{part}");
        Self {
            id: id.to_owned(),
            sizes: ["B", "H", "Lq", "Lk", "d"].map(|size| case[size].as_u64().unwrap() as usize),
            scale: case["scale"].as_f64().unwrap(),
            q: tensors.f32(&name("q")).data,
            k: tensors.f32(&name("k")).data,
            v: tensors.f32(&name("v")).data,
            out: tensors.f64(&name("out")).data,
            keep: matches!(kind, "causal" | "causal_rect" | "keypad" | "fullymasked")
                .then(|| tensors.bool(&name("mask"))),
            bias: (kind == "add").then(|| tensors.f32(&name("mask"))),
            kind: kind.to_owned(),
        }
    }

    /// The mask as it is given, and again as what it means.
    fn masks(&self) -> Vec<Mask<'_>> {
        let mut masks = vec![Mask {
            keep: self.keep.as_ref().map(scores),
            bias: self.bias.as_ref().map(scores),
            ..Mask::default()
        }];
        if self.kind.starts_with("causal") {
            masks.push(Mask { causal: Some(Causal::BottomRight), ..Mask::default() });
        }
        masks
    }

    /// `[B, S]` lengths that a key padding mask stands for.
    fn key_lengths(&self) -> Option<Vec<usize>> {
        let [_, _, queries, keys, _] = self.sizes;
        let keep = self.keep.as_ref().filter(|_| self.kind == "keypad")?;
        let lengths = keep.data.chunks(queries * keys).map(|batch| batch[..keys].iter().filter(|&&keep| keep).count());
        Some(lengths.collect())
    }

    /// `4 * 2^-24 * (D * scale * max_j sum |q| |k_j| + S_k + 8) * max |v|` for every output element.
    fn bounds(&self) -> Vec<f64> {
        let [batch, heads, queries, keys, dim] = self.sizes;
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x).abs()).collect::<Vec<_>>();
        let (q, k, v) = (wide(&self.q), wide(&self.k), wide(&self.v));
        let mut bounds = Vec::new();
        for head in 0..batch * heads {
            let max_v = v[head * keys * dim..][..keys * dim].iter().copied().fold(0.0, f64::max);
            for q in q[head * queries * dim..][..queries * dim].chunks(dim) {
                let products = k[head * keys * dim..][..keys * dim].chunks(dim);
                let products = products.map(|k| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>());
                let largest = products.fold(0.0, f64::max);
                let bound = 4.0 * (-24f64).exp2() * (dim as f64 * self.scale * largest + keys as f64 + 8.0) * max_v;
                bounds.extend(std::iter::repeat_n(bound, dim));
            }
        }
        bounds
    }
}

/// A mask whose leading dimensions may be missing; they broadcast.
fn scores<T>(tensor: &Tensor<T>) -> ScoresRef<'_, T> {
    let mut sizes = [1; 4];
    sizes[4 - tensor.shape.len()..].copy_from_slice(&tensor.shape);
    ScoresRef::new(&tensor.data, sizes).unwrap()
}

#[test]
fn every_case_is_within_its_bound_at_every_level() {
    let cases = golden::json(&golden::folder().join("kernels.json"));
    let tensors = Tensors::open(&golden::folder().join("kernels.safetensors"));
    let mut ran = [0; 3];
    for json in cases["sdpa"].as_array().unwrap() {
        let case = Case::read(json, &tensors);
        // Values that were read from 16 bits are tested in f32 as well.
        check::<f32>(&case);
        ran[0] += 1;
        match json["dtype"].as_str().unwrap() {
            "f32" => {}
            "f16" => {
                check::<f16>(&case);
                ran[1] += 1;
            }
            "bf16" => {
                check::<bf16>(&case);
                ran[2] += 1;
            }
            other => panic!("type {other}"),
        }
    }
    assert_eq!(ran, [15, 2, 2]);
}

/// One case with operands and results of type `T`.
fn check<T: Element>(case: &Case) {
    let [batch, heads, queries, keys, dim] = case.sizes;
    let (bounds, lengths) = (case.bounds(), case.key_lengths());
    let largest: Vec<f64> =
        case.v.chunks(keys * dim).map(|v| v.iter().fold(0.0, |max, &v| f64::max(max, f64::from(v.abs())))).collect();
    let mut masks = case.masks();
    masks.extend(lengths.as_ref().map(|lengths| Mask { key_lengths: Some(lengths), ..Mask::default() }));
    let [q, k, v] =
        [&case.q, &case.k, &case.v].map(|values| values.iter().map(|&x| T::from_f32(x)).collect::<Vec<_>>());
    let mut workspace = Workspace::new();
    let mut first: Option<Vec<T>> = None;
    sweep::levels_and_threads(|level, threads| {
        for (m, &mask) in masks.iter().enumerate() {
            let context = format!("{} {} mask {m} {level} {threads:?}", case.id, T::NAME);
            let scale = Some(case.scale as f32);
            let options = AttentionOptions { scale, mask, threads, level: Some(level), softcap: None };
            let mut out = vec![T::from_f32(f32::NAN); batch * heads * queries * dim];
            let q = HeadsRef::bhsd(&q, [batch, queries, heads, dim]).unwrap();
            let [k, v] = [&k, &v].map(|x| HeadsRef::bhsd(x, [batch, keys, heads, dim]).unwrap());
            let to = HeadsMut::bhsd(&mut out, [batch, queries, heads, dim]).unwrap();
            attention(q, k, v, to, &options, &mut workspace).unwrap();
            let wide: Vec<f32> = out.iter().map(|x| x.to_f32()).collect();
            // Weights that are rounded to bf16 are off by up to 1.04 * 2^-9, and the output by as much of its distance from
            // the values.
            let weights = |i: usize| match T::DTYPE {
                Dtype::Bf16 => 1.04 * 2f64.powi(-9) * (largest[i / (queries * dim)] + case.out[i].abs()),
                _ => 0.0,
            };
            let bound = |i| bounds[i] + weights(i) + rounding::<T>(case.out[i]);
            assert_within(&wide, &case.out, bound, &context);
            // Masks that mean the same, levels of the same arithmetic and any threads give the same bits.
            if level.fused() {
                assert_bits_eq(&out, first.get_or_insert_with(|| out.clone()), &context);
            }
        }
    });
}
