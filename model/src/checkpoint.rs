//! Checkpoints: `config.json` beside `model.safetensors`.

use crate::{Config, Error, Result, TensorSource};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// Longer headers and configurations are refused unread. The largest honest ones hold some hundred thousand names.
const TEXT_LIMIT: u64 = 64 << 20;

/// Bytes of a tensor that are read at a time.
const CHUNK: usize = 64 << 10;

#[doc = include_str!("../CHECKPOINT.md")]
#[derive(Debug)]
pub struct Checkpoint<R> {
    config: Config,
    reader: R,
    /// By name, without the prefix.
    tensors: BTreeMap<String, Tensor>,
    /// The name of the tensor that is being read.
    open: String,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes from the file's beginning.
    start: u64,
    /// Elements that have been read, if it has been opened.
    done: Option<usize>,
}

impl Checkpoint<File> {
    /// Opens `folder/config.json` and `folder/model.safetensors`.
    ///
    /// # Errors
    /// As [`config_of`](Checkpoint::config_of) and [`new`](Checkpoint::new), and [`Error::Io`] for the second file.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let config = Self::config_of(&folder)?;
        let path = folder.as_ref().join("model.safetensors");
        let file = File::open(&path).map_err(io_error(|| path.display().to_string()))?;
        Self::new(config, file)
    }

    /// Reads and validates `folder/config.json` alone.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or has more than 64 MiB, and as [`Config::from_json`].
    pub fn config_of(folder: impl AsRef<Path>) -> Result<Config> {
        let path = folder.as_ref().join("config.json");
        let mut json = Vec::new();
        let read = File::open(&path).and_then(|file| match file.metadata()?.len() {
            ..=TEXT_LIMIT => file.take(TEXT_LIMIT).read_to_end(&mut json),
            _ => Err(ErrorKind::FileTooLarge.into()),
        });
        read.map_err(io_error(|| path.display().to_string()))?;
        Config::from_json(&json)
    }
}

impl<'a> Checkpoint<Cursor<&'a [u8]>> {
    /// A checkpoint in memory: the bytes of both files.
    ///
    /// # Errors
    /// As [`Config::from_json`] and [`new`](Checkpoint::new).
    pub fn from_bytes(config: &[u8], tensors: &'a [u8]) -> Result<Self> {
        Self::new(Config::from_json(config)?, Cursor::new(tensors))
    }
}

impl<R: Read + Seek> Checkpoint<R> {
    /// A checkpoint from a configuration and a safetensors file.
    ///
    /// # Errors
    /// As [`Config::validate`]; [`Error::Io`] when the reader fails, [`Error::HeaderLength`], [`Error::Header`] and
    /// [`Error::DataLength`] for a header that is absurd or does not fit the file, [`Error::TensorTwice`].
    pub fn new(config: Config, mut reader: R) -> Result<Self> {
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
        let mut header = gristmill::list::filled(0, length as usize)?;
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
            let tensor = Tensor { dtype: info.dtype, shape: info.shape.clone(), start, done: None };
            let name = name.strip_prefix("transformer.").unwrap_or(&name);
            if tensors.insert(name.to_owned(), tensor).is_some() {
                return Err(Error::TensorTwice { name: name.to_owned() });
            }
        }
        Ok(Self { config, reader, tensors, open: String::new(), chunk: vec![0; CHUNK] })
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

    fn open(&mut self, name: &str, shape: &[usize]) -> Result {
        let named = || name.to_owned();
        let tensor = self.tensors.get_mut(name).ok_or_else(|| Error::TensorMissing { name: named() })?;
        if tensor.shape != shape {
            return Err(Error::TensorShape { name: named(), expected: shape.into(), found: tensor.shape.clone() });
        }
        if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(Error::TensorType { name: named(), found: format!("{:?}", tensor.dtype) });
        }
        (tensor.done, self.open) = (Some(0), named());
        self.reader.seek(SeekFrom::Start(tensor.start)).map_err(io_error(|| format!("tensor {name:?}")))?;
        Ok(())
    }

    fn read(&mut self, values: &mut [f32]) -> Result {
        let name = &self.open;
        let tensor = self.tensors.get_mut(name).ok_or_else(|| Error::TensorMissing { name: name.clone() })?;
        // The header has been checked against the file's size, so this does not overflow.
        let (elements, done) = (tensor.shape.iter().product(), tensor.done.get_or_insert(0));
        if values.len() > elements - *done {
            return Err(Error::TensorEnd { name: name.clone(), elements });
        }
        let size = if tensor.dtype == Dtype::F32 { 4 } else { 2 };
        for values in values.chunks_mut(CHUNK / size) {
            let bytes = &mut self.chunk[..values.len() * size];
            self.reader.read_exact(bytes).map_err(io_error(|| format!("tensor {name:?}")))?;
            widen(tensor.dtype, bytes, values);
            // Without an early exit this is a few instructions per register.
            if values.iter().fold(false, |any, value| any | value.is_nan()) {
                let index = values.iter().position(|value| value.is_nan()).unwrap_or(0);
                return Err(Error::TensorNan { name: name.clone(), index: *done + index });
            }
            *done += values.len();
        }
        Ok(())
    }

    fn finish(&self) -> Result {
        let extra = self.tensors.iter().find(|(_, tensor)| tensor.done.is_none());
        extra.map_or(Ok(()), |(name, _)| Err(Error::TensorExtra { name: name.clone() }))
    }
}

/// Decodes little-endian values and widens narrow ones, some at a time.
fn widen(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    if dtype == Dtype::F32 {
        return values.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, &from)| *to = f32::from_le_bytes(from));
    }
    for (values, bytes) in values.chunks_mut(256).zip(bytes.chunks(512)) {
        let mut bits = [0; 256];
        bits.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, &from)| *to = u16::from_le_bytes(from));
        let bits = &bits[..values.len()];
        match dtype {
            Dtype::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
            _ => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values),
        }
    }
}

fn io_error(what: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> Error {
    |source| Error::Io { what: what(), source }
}
