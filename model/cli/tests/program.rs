//! The program, run as its users run it.

use gristmill_model::{Config, GenerateOptions, Hypothesis, Positions, Sampling, SessionOptions};
use gristmill_testkit::models::{Folder, TensorFile, json, seeded, sentences, small};
use gristmill_testkit::{models, sweep};
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn program(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    let pipes = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// What a successful run writes.
#[track_caller]
fn good(arguments: &[&str], stdin: &[u8]) -> String {
    let output = program(arguments, stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &stderr[..]), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that a refused run writes to stderr.
#[track_caller]
fn refused(arguments: &[&str], stdin: &[u8]) -> String {
    let output = program(arguments, stdin);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
    stderr
}

fn generate<'a>(model: &'a Folder, more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--model", model.path().to_str().unwrap()], more].concat()
}

fn ids(lines: &str) -> Vec<Vec<u32>> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A small model with text.
fn textual() -> Config {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "c"];
    models::textual(&tokens, &tokens)
}

#[test]
fn ids_in_ids_out_in_order_whatever_the_batch() {
    let folder = Folder::with_checkpoint("ids", &small());
    let sources = sentences(&[5, 1, 9, 9, 3, 12, 4], 41, 5);
    let stdin: String = sources.iter().map(|ids| format!("{ids:?}\n")).collect();
    let model = seeded(small());
    let options = GenerateOptions { max_new_tokens: 12, ..Default::default() };
    let mut session = model.session(SessionOptions::default()).unwrap();
    let expected = session.generate(&sources, &options).unwrap();
    for more in [&[][..], &["--batch", "1"], &["--batch", "3"], &["--batch", "100", "--threads", "3"], &["--threads=1"]]
    {
        let arguments = generate(&folder, &[&["--ids", "--max-new-tokens", "12"], more].concat());
        assert_eq!(ids(&good(&arguments, stdin.as_bytes())), expected, "{more:?}");
    }
    sweep::levels(|level| {
        let arguments = generate(&folder, &["--ids", "--max-new-tokens", "12", "--level", level.name()]);
        assert_eq!(ids(&good(&arguments, stdin.as_bytes())).len(), expected.len());
    });
    // The last line needs no end.
    let arguments = generate(&folder, &["--ids", "--max-new-tokens", "12"]);
    assert_eq!(ids(&good(&arguments, stdin.trim_end().as_bytes())), expected);
    assert_eq!(good(&arguments, b""), "");
    assert_eq!(ids(&good(&generate(&folder, &["--ids", "--max-new-tokens", "0"]), b"[2,3]\n")), [[2]]);
}

#[test]
fn the_time_of_a_sentence_is_told_beside_the_sentences() {
    let folder = Folder::with_checkpoint("told", &small());
    let told = |stdin: &[u8]| {
        // Sentences of a fixed length.
        let length = ["--ids", "--max-new-tokens", "12", "--min-new-tokens", "12", "--batch", "2"];
        let sentences = good(&generate(&folder, &length), stdin);
        let output = program(&generate(&folder, &[&length[..], &["--time"]].concat()), stdin);
        assert_eq!((output.status.code(), output.stdout), (Some(0), sentences.into_bytes()));
        String::from_utf8(output.stderr).unwrap()
    };
    let line = told(b"[2,3]\n[2,9,3]\n[2,7,7,3]\n");
    let numbers = line.strip_prefix("3 sentences, 36 ids: ").and_then(|rest| rest.strip_suffix(" ids per second\n"));
    let (each, rate) = numbers.and_then(|numbers| numbers.split_once(" ms per sentence, ")).expect(&line);
    assert!([each, rate].map(|number| number.parse::<f64>().unwrap()).iter().all(|&number| number > 0.0), "{line}");
    assert_eq!(told(b""), "0 sentences, 0 ids: 0.000 ms per sentence, 0 ids per second\n");
}

#[test]
fn searches_are_those_of_the_library() {
    let folder = Folder::with_checkpoint("search", &small());
    let sources = sentences(&[5, 1, 9], 41, 5);
    let stdin: String = sources.iter().map(|ids| format!("{ids:?}\n")).collect();
    let model = seeded(small());
    let mut session = model.session(SessionOptions::default()).unwrap();
    let beam = ["--beams", "4", "--n-best", "2", "--length-penalty", "-0.5", "--min-new-tokens", "3", "--exhaustive"];
    let options = GenerateOptions {
        beams: 4,
        n_best: 2,
        length_penalty: -0.5,
        min_new_tokens: 3,
        max_new_tokens: 9,
        early_stopping: false,
        ..Default::default()
    };
    let draw = ["--sample", "7", "--temperature", "1.5", "--top-k", "20", "--top-p", "0.9", "--shortlist", "4,5,6,9"];
    let sampling = Sampling { temperature: 1.5, top_k: 20, top_p: 0.9, seed: 7, first_sentence: 0 };
    let drawn = GenerateOptions {
        max_new_tokens: 9,
        sampling: Some(sampling),
        shortlist: Some(&[4, 5, 6, 9]),
        ..Default::default()
    };
    for (flags, options) in [(&beam[..], options), (&draw[..], drawn)] {
        let found = session.hypotheses(&sources, &options).unwrap();
        let several = |line| if options.n_best > 1 { format!("{line}\t") } else { String::new() };
        let line = |h: &Hypothesis| format!("{}\t{}\t{}\n", h.score, h.log_probability, serde_json::json!(h.ids));
        let lines = |(number, all): (i32, &Vec<_>)| all.iter().map(|h| several(number) + &line(h)).collect::<String>();
        let expected: String = (1..).zip(&found).map(lines).collect();
        // Cut into batches, every sentence keeps its number.
        for batch in ["1", "2", "9"] {
            let more = ["--ids", "--max-new-tokens", "9", "--scores", "--batch", batch];
            let arguments = generate(&folder, &[&more, flags].concat());
            assert_eq!(good(&arguments, stdin.as_bytes()), expected);
        }
    }
    for (flags, says) in [
        (&["--beams", "0"][..], "beams is 0"),
        (&["--n-best", "2"], "n_best is 2, but beams is 1"),
        (&["--temperature", "2"], "--sample"),
        (&["--sample", "1", "--top-p", "0"], "top_p is 0"),
        (&["--sample", "1", "--beams", "2"], "2 beams"),
        (&["--beams", "1000000000000000"], "16000000000000000 bytes"),
        (&["--shortlist", "1,99"], "99"),
        (&["--shortlist", "x"], "--shortlist"),
    ] {
        let message = refused(&generate(&folder, &[&["--ids"], flags].concat()), b"[2]\n");
        assert!(message.contains(says), "{flags:?}: {message}");
    }
}

#[test]
fn options_are_checked_before_weights_and_sentences_are_read() {
    let folder = Folder::new("early");
    let mut tensors = TensorFile::of(&small());
    tensors.put("extra", &[1], &[0.0]);
    folder.write("model.safetensors", &tensors.bytes());
    for (config, flags, says) in [
        (small(), &["--shortlist", "1,99"][..], "id 99 at position 1"),
        (small(), &["--n-best", "2"], "n_best is 2"),
        (Config { bos: None, ..small() }, &[], "bos"),
        (small(), &[], "extra"),
    ] {
        folder.write("config.json", &json(&config));
        let message = refused(&generate(&folder, &[&["--ids"], flags].concat()), b"no ids\n");
        assert!(message.contains(says), "{flags:?}: {message}");
    }
}

#[test]
fn text_in_text_out() {
    let folder = Folder::with_checkpoint("text", &textual());
    let arguments = generate(&folder, &["--max-new-tokens", "9"]);
    let text = good(&arguments, b"abc\nb\n");
    assert_eq!(text.lines().count(), 2);
    let by_ids = good(&generate(&folder, &["--max-new-tokens", "9", "--ids"]), b"[1,5,6,2]\n[1,4,2]\n");
    let tokens = textual().tgt_tokens.unwrap();
    let plain =
        |ids: &[u32]| ids.iter().filter(|&&id| id != 1 && id != 2).map(|&id| &tokens[id as usize][..]).collect();
    assert_eq!(
        text.lines().map(String::from).collect::<Vec<_>>(),
        ids(&by_ids).iter().map(|i| plain(i)).collect::<Vec<String>>()
    );
}

#[test]
fn bad_lines_are_refused_by_their_number() {
    let folder =
        Folder::with_checkpoint("lines", &Config { positions: Positions::Learned { max_length: 8 }, ..textual() });
    let by_ids = generate(&folder, &["--ids"]);
    for (line, says) in [
        ("", "empty"),
        ("[]", "no ids"),
        ("[1,", "JSON"),
        ("1 3 2", "JSON"),
        ("[1,-3,2]", "JSON"),
        ("[1,4294967296,2]", "JSON"),
        ("[1,7,2]", "vocabulary of 7"),
        ("[1,3,3,3,3,3,3,3,2]", "8 positions"),
    ] {
        let message = refused(&by_ids, format!("[1,3,2]\n{line}\n[1,2]\n").as_bytes());
        assert!(message.contains("line 2") && message.contains(says), "{line}: {message}");
    }
    let by_text = generate(&folder, &[]);
    for (line, says) in
        [(&b""[..], "empty"), (b"ax", "'x'"), (b"a\r", "'\\r'"), (b"\xff", "utf-8"), (b"aaaaaaa", "8 positions")]
    {
        let message = refused(&by_text, &[b"a\n", line, b"\n"].concat());
        assert!(message.contains("line 2") && message.contains(says), "{line:?}: {message}");
    }
}

#[test]
fn bad_models_are_refused() {
    let missing = refused(&["generate", "--ids", "--model", "/no/such/folder"], b"");
    assert!(missing.contains("/no/such/folder"), "{missing}");
    let folder = Folder::with_checkpoint("model", &small());
    assert!(refused(&generate(&folder, &[]), b"a\n").contains("src_tokens"));
    let no_bos = Folder::with_checkpoint("bos", &Config { bos: None, ..small() });
    assert!(refused(&generate(&no_bos, &["--ids"]), b"[3]\n").contains("bos"));
    let mut tensors = TensorFile::of(&small());
    let bytes = tensors.bytes();
    folder.write("model.safetensors", &bytes[..bytes.len() / 2]);
    assert!(refused(&generate(&folder, &["--ids"]), b"[3]\n").contains("safetensors"));
    folder.write("config.json", b"{\n\n\"d_model\":\n\"x\"}");
    assert!(refused(&generate(&folder, &["--ids"]), b"[3]\n").contains("config"));
    // A name that could break the line.
    tensors.put("one\ntwo", &[1], &[0.0]);
    folder.write("model.safetensors", &tensors.bytes());
    folder.write("config.json", &json(&small()));
    refused(&generate(&folder, &["--ids"]), b"[3]\n");
}

#[test]
fn bad_arguments_are_refused_on_one_line() {
    for arguments in [
        &[][..],
        &["grind"],
        &["generate"],
        &["generate", "--model"],
        &["generate", "--model", "x", "--threads", "0"],
        &["generate", "--model", "x", "--batch", "0"],
        &["generate", "--model", "x", "--max-new-tokens", "-1"],
        &["generate", "--model", "x", "--level", "avx1024"],
        &["time"],
        &["time", "--config", "medium"],
        &["time", "--config", "base", "--workers", "0"],
        &["time", "--config", "base", "--batch", "0"],
        &["time", "--config", "base", "--batch", "18446744073709551615"],
        &["time", "--config", "base", "--length", "1000000000000"],
        &["time", "--config", "base", "--batch", "65536", "--length", "65536"],
        &["info", "--all"],
    ] {
        refused(arguments, b"");
    }
}

#[test]
fn a_misspelt_pin_is_refused_by_its_name() {
    for arguments in [&["info"][..], &["generate", "--model", "x"], &["time", "--config", "base"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        let output = command.args(arguments).env("GRISTMILL_LEVEL", "avx3").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains("GRISTMILL_LEVEL") && stderr.contains("avx3"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn info_says_what_would_be_used() {
    let info = good(&["info"], b"");
    sweep::levels(|level| assert!(info.contains(level.name()), "{info}"));
    assert!(info.contains("threads") && info.contains("KiB"), "{info}");
    assert!(good(&["--help"], b"").contains("generate"));
    assert!(good(&["--version"], b"").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn time_times_three_things_and_their_operations() {
    let folder = Folder::new("time");
    let config = Config { positions: Positions::Learned { max_length: 5 }, ..small() };
    folder.write("config.json", &json(&config));
    let times = good(&["time", "--config", folder.path().to_str().unwrap(), "--threads", "2", "--batch", "2"], b"");
    let settings = ["threads 2", "batch 2", "5 source tokens, 4 new"];
    let parts = ["encoder", "decoder step", "generation", "mean of 1 more", "mean of 5 more"];
    for what in [&settings[..], &parts].concat() {
        assert!(times.contains(what), "{what}: {times}");
    }

    let arguments = ["time", "--config", folder.path().to_str().unwrap(), "--json", "--workers", "2"];
    let report: serde_json::Value = serde_json::from_str(&good(&arguments, b"")).unwrap();
    assert!(!times.contains("together"), "{times}");
    let workers = &report["workers"];
    assert_eq!(workers["count"].as_u64(), Some(2));
    assert!(["alone_tokens_per_s", "together_tokens_per_s"].iter().all(|&rate| workers[rate].as_f64().unwrap() > 0.0));
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| &part["name"]).collect::<Vec<_>>(), ["encoder", "decoder step", "generation"]);
    for part in parts {
        assert!(part["median_ms"].as_f64().unwrap() > 0.0);
        let (all, operations) = part["operations"].as_array().unwrap().split_last().unwrap();
        let sum = |key: &str| operations.iter().map(|line| line[key].as_f64().unwrap()).sum::<f64>();
        assert_eq!((all["name"].as_str(), all["share_pct"].as_f64()), (Some("all"), Some(100.0)));
        assert!((sum("share_pct") - 100.0).abs() < 1e-6, "{part}");
        assert!((sum("ms") / all["ms"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{part}");
    }
}

#[test]
fn a_closed_pipe_is_no_reason_to_complain() {
    let folder = Folder::with_checkpoint("pipe", &small());
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    let arguments = generate(&folder, &["--ids", "--max-new-tokens", "3", "--batch", "1"]);
    let pipes = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(&b"[1,2]\n".repeat(50)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[cfg(target_os = "linux")]
#[test]
fn streams_that_fail_are_named() {
    let folder = Folder::with_checkpoint("streams", &small());
    let arguments = generate(&folder, &["--ids", "--max-new-tokens", "3", "--time"]);
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let run = |stdin: Stdio, stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        let output = command.args(&arguments).stdin(stdin).stdout(stdout).stderr(stderr).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let directory = std::fs::File::open("/").unwrap();
    let (code, message) = run(directory.into(), Stdio::piped(), Stdio::piped());
    assert!(code == Some(2) && message.starts_with("gristmill: stdin: "), "{message}");
    folder.write("lines", b"[2,3]\n");
    let lines = || Stdio::from(std::fs::File::open(folder.path().join("lines")).unwrap());
    let (code, message) = run(lines(), full(), Stdio::piped());
    assert!(code == Some(2) && message.starts_with("gristmill: output: "), "{message}");
    // Nobody can be told, but the exit code says that something was wrong.
    assert_eq!(run(lines(), Stdio::piped(), full()).0, Some(2));
    assert_eq!(run(lines(), full(), full()).0, Some(2));
}
