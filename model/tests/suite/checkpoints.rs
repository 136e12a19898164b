//! Checkpoints: what is accepted, and the error that each fault gives.

use gristmill_model::{Config, Error, Positions, Precision, SessionOptions, Transformer};
use gristmill_testkit::compare::bits;
use gristmill_testkit::models::{self, Dtype, Folder, TensorFile, json, seeded, sentences, small, variants};
use half::{bf16, f16};

fn load_bytes(config: &Config, tensors: &[u8]) -> Result<Transformer, Error> {
    models::load(&json(config), tensors)
}

fn load(config: &Config, tensors: &TensorFile) -> Result<Transformer, Error> {
    load_bytes(config, &tensors.bytes())
}

fn logits(model: &Transformer) -> Vec<u32> {
    let config = model.config();
    let (sources, targets) = (sentences(&[5, 3], config.src_vocab, 1), sentences(&[4, 6], config.tgt_vocab, 2));
    bits(model.session(SessionOptions::default()).unwrap().forward(&sources, &targets).unwrap().values())
}

/// What a fault in an otherwise good checkpoint of the small model gives.
fn fault(spoil: impl FnOnce(&mut TensorFile)) -> Error {
    let mut tensors = TensorFile::of(&small());
    spoil(&mut tensors);
    load(&small(), &tensors).unwrap_err()
}

/// What spoilt bytes of an otherwise good checkpoint of the small model give.
fn byte_fault(spoil: impl FnOnce(&mut Vec<u8>)) -> Error {
    let mut bytes = TensorFile::of(&small()).bytes();
    spoil(&mut bytes);
    load_bytes(&small(), &bytes).unwrap_err()
}

/// A file with this header and this much data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn a_checkpoint_gives_the_model_that_wrote_it() {
    for (name, config) in variants() {
        let loaded = load(&config, &TensorFile::of(&config)).unwrap();
        assert!(logits(&loaded) == logits(&seeded(config)), "{name}");
    }
}

#[test]
fn a_folder_is_a_checkpoint() {
    let folder = Folder::new("checkpoint");
    let load = || Transformer::load(folder.path(), Precision::F32);
    assert!(matches!(load(), Err(Error::Io { .. })));
    folder.write("config.json", &json(&small()));
    assert!(matches!(load(), Err(Error::Io { .. })));
    folder.write("model.safetensors", &TensorFile::of(&small()).bytes());
    assert!(logits(&load().unwrap()) == logits(&seeded(small())));
}

#[test]
fn an_endless_configuration_is_refused_unread() {
    let folder = Folder::new("endless");
    folder.write("config.json", b"{");
    let file = std::fs::File::options().write(true).open(folder.path().join("config.json")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let found = Transformer::load(folder.path(), Precision::F32);
    let Err(Error::Io { what, source }) = found else { panic!("{:?}", found.err()) };
    assert!(what.ends_with("config.json") && source.kind() == std::io::ErrorKind::FileTooLarge, "{what}: {source}");
}

#[test]
fn the_prefix_is_optional_but_not_double() {
    let mut tensors = TensorFile::of(&small());
    let names: Vec<String> = tensors.0.keys().filter(|name| name.starts_with("encoder.")).cloned().collect();
    names.iter().for_each(|name| tensors.rename(name, &format!("transformer.{name}")));
    assert!(load(&small(), &tensors).is_ok());
    let again = tensors.0["transformer.encoder.layers.0.norm1.weight"].clone();
    tensors.0.insert("encoder.layers.0.norm1.weight".into(), again);
    assert!(matches!(load(&small(), &tensors), Err(Error::TensorTwice { .. })));
}

#[test]
fn sixteen_bits_are_widened_exactly() {
    const NAME: &str = "encoder.layers.0.linear1.weight";
    for dtype in [Dtype::F16, Dtype::BF16] {
        let mut narrow = TensorFile::of(&small());
        narrow.narrow(NAME, dtype);
        let (_, shape, bytes) = &narrow.0[NAME];
        let halves = bytes.as_chunks().0.iter();
        let widened: Vec<f32> = match dtype {
            Dtype::F16 => halves.map(|&half| f16::from_le_bytes(half).to_f32()).collect(),
            _ => halves.map(|&half| bf16::from_le_bytes(half).to_f32()).collect(),
        };
        let mut wide = narrow.clone();
        wide.put(NAME, shape, &widened);
        assert!(logits(&load(&small(), &narrow).unwrap()) == logits(&load(&small(), &wide).unwrap()));
    }
}

#[test]
fn a_generator_bias_is_judged_by_its_presence() {
    for config in [small(), Config { bias: false, ..small() }] {
        let mut tensors = TensorFile::of(&config);
        let without = logits(&load(&config, &tensors).unwrap());
        tensors.put("generator.bias", &[37], &[1.0; 37]);
        let with = logits(&load(&config, &tensors).unwrap());
        assert!(with.iter().zip(&without).all(|(&a, &b)| f32::from_bits(a) == f32::from_bits(b) + 1.0));
    }
}

#[test]
fn tied_tensors_are_absent_or_equal() {
    let config = Config { tied_output: true, tied_embeddings: true, src_vocab: 37, ..small() };
    let once = TensorFile::of(&config);
    let expected = logits(&load(&config, &once).unwrap());
    let (dtype, shape, bytes) = once.0["tgt_embed.weight"].clone();

    let mut source_only = once.clone();
    source_only.rename("tgt_embed.weight", "src_embed.weight");
    assert!(logits(&load(&config, &source_only).unwrap()) == expected);

    for name in ["src_embed.weight", "generator.weight"] {
        let mut twice = once.clone();
        twice.0.insert(name.into(), (dtype, shape.clone(), bytes.clone()));
        assert!(logits(&load(&config, &twice).unwrap()) == expected);
        twice.0.get_mut(name).unwrap().2[4 * 75] ^= 1;
        let error = load(&config, &twice).unwrap_err();
        assert!(matches!(error, Error::TensorTied { name: n, index: 75, .. } if n == name), "{error}");
    }
}

#[test]
fn every_missing_tensor_is_missed() {
    for (name, config) in variants() {
        let tensors = TensorFile::of(&config);
        for missing in tensors.0.keys() {
            let mut spoilt = tensors.clone();
            spoilt.0.remove(missing);
            let error = load(&config, &spoilt).unwrap_err();
            assert!(matches!(&error, Error::TensorMissing { name } if name == missing), "{name}: {missing}: {error}");
        }
    }
}

#[test]
fn faulty_tensors_are_named() {
    let error = fault(|tensors| tensors.put("decoder.layers.1.linear1.weight", &[36, 50], &[0.0; 1800]));
    let Error::TensorShape { name, expected, found } = error else { panic!("{error}") };
    assert_eq!((&name[..], expected, found), ("decoder.layers.1.linear1.weight", vec![50, 36], vec![36, 50]));

    let error = fault(|tensors| tensors.put("decoder.layers.2.linear1.weight", &[1], &[0.0]));
    assert!(matches!(&error, Error::TensorExtra { name } if name == "decoder.layers.2.linear1.weight"), "{error}");

    let error = fault(|tensors| {
        let bytes = &mut tensors.0.get_mut("encoder.layers.1.norm2.bias").unwrap().2;
        bytes[4 * 35..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(matches!(&error, Error::TensorNan { name, index: 35 } if name == "encoder.layers.1.norm2.bias"), "{error}");

    let error = fault(|tensors| {
        let tensor = tensors.0.get_mut("encoder.layers.1.norm2.bias").unwrap();
        *tensor = (Dtype::F64, vec![36], vec![0; 8 * 36]);
    });
    assert!(matches!(&error, Error::TensorType { found, .. } if found == "F64"), "{error}");
}

#[test]
fn a_bias_where_there_are_none_is_extra() {
    let config = Config { bias: false, ..small() };
    let mut tensors = TensorFile::of(&config);
    tensors.put("encoder.layers.0.linear1.bias", &[50], &[0.0; 50]);
    assert!(matches!(load(&config, &tensors), Err(Error::TensorExtra { .. })));
}

#[test]
fn hostile_headers_are_refused() {
    let error = byte_fault(|bytes| bytes.truncate(7));
    assert!(matches!(error, Error::HeaderLength { available: 7, .. }), "{error}");
    for length in [u64::MAX, 1 << 40, i64::MAX as u64, 100_000_000] {
        let error = byte_fault(|bytes| bytes[..8].copy_from_slice(&length.to_le_bytes()));
        assert!(matches!(error, Error::HeaderLength { length: l, .. } if l == length), "{error}");
    }
    let error = byte_fault(|bytes| bytes[8] = b'[');
    assert!(matches!(error, Error::Header(_)), "{error}");
    let error = byte_fault(|bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(error, Error::DataLength { .. }), "{error}");
    let error = byte_fault(|bytes| bytes.push(0));
    assert!(matches!(error, Error::DataLength { .. }), "{error}");

    let headers = [
        ("", 0),
        ("{", 0),
        ("null", 0),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4),
        (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
        (r#"{"a":{"dtype":"F32","shape":[2305843009213693952,2],"data_offsets":[0,0]}}"#, 0),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 4),
        // Two tensors in the same place.
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
        ),
        // One name twice leaves a hole where the first was.
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
        ),
    ];
    for (header, data) in headers {
        let error = load_bytes(&small(), &file(header, data)).unwrap_err();
        assert!(matches!(error, Error::Header(_)), "{header}: {error}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(matches!(load_bytes(&small(), &file(&deep, 0)), Err(Error::Header(_))));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = TensorFile::of(&small()).bytes();
    for length in (0..bytes.len()).step_by(97) {
        assert!(load_bytes(&small(), &bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn shapes_are_checked_before_anything_is_allocated() {
    // A petabyte by configuration, nothing by file.
    let config = Config { d_ff: 1 << 40, ..small() };
    let error = load(&config, &TensorFile::of(&small())).unwrap_err();
    assert!(matches!(error, Error::TensorShape { .. }), "{error}");
    let config = Config { encoder_layers: 1 << 30, ..small() };
    let error = load(&config, &TensorFile::of(&small())).unwrap_err();
    assert!(matches!(error, Error::TensorMissing { .. }), "{error}");
    let config = Config { positions: Positions::Learned { max_length: 1 << 40 }, ..small() };
    let error = load(&config, &TensorFile::of(&small())).unwrap_err();
    assert!(matches!(error, Error::TensorMissing { .. }), "{error}");
}
