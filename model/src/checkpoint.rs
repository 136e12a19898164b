//! Checkpoints: `config.json` beside `model.safetensors`.

use crate::source::{TensorSource, make_room};
use crate::{Config, Error};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Longer headers and configurations are refused unread. The largest honest ones hold some hundred thousand names.
const TEXT_LIMIT: u64 = 64 << 20;

/// Bytes of a tensor that are read at a time.
const CHUNK: usize = 64 << 10;

/// A checkpoint whose header has been read and checked, and whose tensors can be read one by one.
///
/// Names may have the prefix `transformer.`; elements are f32, f16 or bf16, widened exactly. A NaN is refused, an
/// infinity is not: some models forbid tokens by a bias of minus infinity.
///
/// Nothing larger than the header is allocated before the header is known to fit the file.
#[derive(Debug)]
pub struct Checkpoint<R> {
    config: Config,
    reader: R,
    /// By name, without the prefix.
    tensors: BTreeMap<String, Tensor>,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes from the file's beginning.
    start: u64,
    read: bool,
}

impl Checkpoint<File> {
    /// Opens `folder/config.json` and `folder/model.safetensors`.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let config = Self::config_of(&folder)?;
        let path = folder.as_ref().join("model.safetensors");
        let file = File::open(&path).map_err(io_error(|| path.display().to_string()))?;
        Self::new(config, file)
    }

    /// Reads and validates `folder/config.json` alone.
    pub fn config_of(folder: impl AsRef<Path>) -> Result<Config, Error> {
        let path = folder.as_ref().join("config.json");
        let mut json = Vec::new();
        let file = File::open(&path).map_err(io_error(|| path.display().to_string()))?;
        file.take(TEXT_LIMIT).read_to_end(&mut json).map_err(io_error(|| path.display().to_string()))?;
        Config::from_json(&json)
    }
}

impl<'a> Checkpoint<Cursor<&'a [u8]>> {
    /// A checkpoint in memory: the bytes of both files.
    pub fn from_bytes(config: &[u8], tensors: &'a [u8]) -> Result<Self, Error> {
        Self::new(Config::from_json(config)?, Cursor::new(tensors))
    }
}

impl<R: Read + Seek> Checkpoint<R> {
    /// A checkpoint from a configuration and a safetensors file.
    pub fn new(config: Config, mut reader: R) -> Result<Self, Error> {
        config.validate()?;
        let header_error = || io_error(|| "safetensors header".into());
        let size = reader.seek(SeekFrom::End(0)).map_err(header_error())?;
        reader.seek(SeekFrom::Start(0)).map_err(header_error())?;
        let mut length = [0; 8];
        let available = size.checked_sub(8).ok_or(Error::HeaderLength { length: 8, available: size })?;
        reader.read_exact(&mut length).map_err(header_error())?;
        let length = u64::from_le_bytes(length);
        if length > available.min(TEXT_LIMIT) {
            return Err(Error::HeaderLength { length, available });
        }
        let mut header = vec![0; length as usize];
        reader.read_exact(&mut header).map_err(header_error())?;
        // This checks that the tensors follow each other without gaps and that shapes, types and offsets agree.
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| Error::Header(e.to_string()))?;
        let (expected, found) = (metadata.data_len() as u64, available - length);
        if expected != found {
            return Err(Error::DataLength { expected, found });
        }
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let start = 8 + length + info.data_offsets.0 as u64;
            let tensor = Tensor { dtype: info.dtype, shape: info.shape.clone(), start, read: false };
            let name = name.strip_prefix("transformer.").unwrap_or(&name);
            if tensors.insert(name.to_owned(), tensor).is_some() {
                return Err(Error::TensorTwice { name: name.to_owned() });
            }
        }
        Ok(Self { config, reader, tensors, chunk: Vec::new() })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl<R: Read + Seek> TensorSource for Checkpoint<R> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn read(&mut self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<(), Error> {
        let named = || name.to_owned();
        let tensor = self.tensors.get_mut(name).ok_or_else(|| Error::TensorMissing { name: named() })?;
        if tensor.shape != shape {
            return Err(Error::TensorShape { name: named(), expected: shape.into(), found: tensor.shape.clone() });
        }
        let (bytes_each, widen): (usize, Widen) = match tensor.dtype {
            Dtype::F32 => (4, |bytes, values| widen(bytes, values, f32::from_le_bytes)),
            Dtype::F16 => (2, |bytes, values| widen(bytes, values, |b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => (2, |bytes, values| widen(bytes, values, |b| bf16::from_le_bytes(b).to_f32())),
            other => return Err(Error::TensorType { name: named(), found: format!("{other:?}") }),
        };
        tensor.read = true;
        let elements = make_room(shape, values)?;
        let read_error = || io_error(|| format!("tensor {name:?}"));
        self.reader.seek(SeekFrom::Start(tensor.start)).map_err(read_error())?;
        self.chunk.resize(CHUNK, 0);
        // The header has been checked against the file's size, so this does not overflow.
        let mut left = elements * bytes_each;
        while left > 0 {
            let chunk = &mut self.chunk[..left.min(CHUNK)];
            self.reader.read_exact(chunk).map_err(read_error())?;
            let done = values.len();
            widen(chunk, values);
            if let Some(index) = values[done..].iter().position(|value| value.is_nan()) {
                return Err(Error::TensorNan { name: named(), index: done + index });
            }
            left -= chunk.len();
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        match self.tensors.iter().find(|(_, tensor)| !tensor.read) {
            Some((name, _)) => Err(Error::TensorExtra { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Appends the elements of some bytes to the values.
type Widen = fn(&[u8], &mut Vec<f32>);

fn widen<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, element: impl Fn([u8; N]) -> f32) {
    values.extend(bytes.as_chunks().0.iter().map(|&bytes| element(bytes)));
}

fn io_error(what: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> Error {
    |source| Error::Io { what: what(), source }
}
