//! Results of an independent implementation in f64, for inputs that are exact in f32 (or f16, bf16).
//!
//! `kernels` has attention and layer normalisation; the folders `t_*` are whole models in the checkpoint form.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::{Path, PathBuf};

/// A value of a JSON file.
pub use serde_json::Value;

/// A tensor, row-major.
#[derive(Clone, Debug)]
pub struct Tensor<T> {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<T>,
}

/// The folder of the golden data.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden")
}

/// The folders of the whole models, sorted by name.
///
/// # Panics
/// When the folder cannot be read.
pub fn models() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap_or_else(|error| panic!("{}: {error}", folder().display()));
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    models.sort();
    models
}

/// A JSON file.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of tensors. Its methods panic on what is not there: golden data is never optional.
pub struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads a safetensors file.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), bytes }
    }

    /// The tensor of f32, or widened exactly to it from f16 or bf16.
    ///
    /// # Panics
    /// When there is none of that name and a type that widens.
    #[track_caller]
    pub fn f32(&self, name: &str) -> Tensor<f32> {
        self.read(name, |dtype, bytes| match dtype {
            Dtype::F32 => Some(values(bytes, f32::from_le_bytes)),
            Dtype::F16 => Some(values(bytes, |b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => Some(values(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            _ => None,
        })
    }

    /// The tensor of f64.
    ///
    /// # Panics
    /// When there is none of that name and type.
    #[track_caller]
    pub fn f64(&self, name: &str) -> Tensor<f64> {
        self.read(name, |dtype, bytes| (dtype == Dtype::F64).then(|| values(bytes, f64::from_le_bytes)))
    }

    /// The tensor of integers of 32 or 64 bits.
    ///
    /// # Panics
    /// When there is none of that name and type.
    #[track_caller]
    pub fn i64(&self, name: &str) -> Tensor<i64> {
        self.read(name, |dtype, bytes| match dtype {
            Dtype::I64 => Some(values(bytes, i64::from_le_bytes)),
            Dtype::I32 => Some(values(bytes, |b| i32::from_le_bytes(b).into())),
            _ => None,
        })
    }

    /// The tensor of bytes, true where not zero.
    ///
    /// # Panics
    /// When there is none of that name and type.
    #[track_caller]
    pub fn bool(&self, name: &str) -> Tensor<bool> {
        self.read(name, |dtype, bytes| {
            matches!(dtype, Dtype::U8 | Dtype::BOOL).then(|| values(bytes, |[b]: [u8; 1]| b != 0))
        })
    }

    #[track_caller]
    fn read<T>(&self, name: &str, read: impl Fn(Dtype, &[u8]) -> Option<Vec<T>>) -> Tensor<T> {
        let path = self.path.display();
        let file = SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tensor: TensorView = file.tensor(name).unwrap_or_else(|error| panic!("{path}: {name}: {error}"));
        let data = read(tensor.dtype(), tensor.data());
        let data = data.unwrap_or_else(|| panic!("{path}: {name} is of type {:?}", tensor.dtype()));
        Tensor { shape: tensor.shape().to_vec(), data }
    }
}

fn values<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| value(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there() {
        let models = models();
        assert_eq!(models.len(), 11);
        for model in models {
            assert!(json(&model.join("config.json"))["d_model"].is_u64());
            let io = Tensors::open(&model.join("io.safetensors"));
            let shape = io.i64("in.src").shape;
            assert_eq!(io.f64("out.encoder").shape[..2], shape[..]);
        }
        let cases = json(&folder().join("kernels.json"));
        let counts = ["sdpa", "layer_norm"].map(|kernel| cases[kernel].as_array().unwrap().len());
        assert_eq!(counts, [15, 9]);
    }

    #[test]
    fn sixteen_bits_widen_exactly() {
        let tensors = Tensors::open(&folder().join("kernels.safetensors"));
        let (f16s, bf16s) = (tensors.f32("ln5.x"), tensors.f32("ln7.x"));
        assert_eq!((f16s.shape, bf16s.shape), (vec![2, 1024], vec![2, 512]));
        assert!(f16s.data.iter().all(|&x| f16::from_f32(x).to_f32() == x));
        assert!(bf16s.data.iter().all(|&x| bf16::from_f32(x).to_f32() == x));
    }
}
