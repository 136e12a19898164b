//! A program in C, compiled against the header and linked with each library, must find everything as the header says.
#![cfg(unix)]

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where cargo puts libraries: beside the tests, or one folder up.
fn library(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let folders = test.ancestors().skip(1).take(2);
    let candidates = folders.map(|folder| folder.join(name)).filter(|path| path.exists());
    let newest = candidates.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.unwrap_or_else(|| panic!("cargo made no {name} for {}", test.display()))
}

fn from_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The compiler that a variable names, or the usual one, told to refuse what deserves a warning.
fn compiler(variable: &str, usual: &str, standard: &str) -> Command {
    let mut compiler = Command::new(env::var_os(variable).unwrap_or_else(|| usual.into()));
    compiler.args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"]).arg(from_root("include"));
    compiler
}

fn compile(mut compiler: Command) {
    let compiled = compiler.output().expect("a compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

/// The files of `tests/program`.
fn parts() -> Vec<PathBuf> {
    let parts = from_root("tests/program").read_dir().expect("the parts of the program");
    let parts = parts.map(|part| part.expect("a part of the program").path());
    parts.filter(|part| part.extension().is_some_and(|end| end == "c")).collect()
}

fn in_target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The compiled program, which has run.
fn compile_and_run(program: &str, sources: &[PathBuf], libraries: &[&OsStr]) -> Command {
    let program = in_target(program);
    let mut cc = compiler("CC", "cc", "-std=c99");
    cc.args(["-O1", "-o"]).arg(&program).args(sources).args(libraries);
    compile(cc);
    let mut program = Command::new(&program);
    run(&mut program);
    program
}

fn run(program: &mut Command) {
    let ran = program.output().expect("the compiled program");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn the_header_is_c_and_cpp() {
    let header = from_root("include/gristmill.h");
    for (variable, usual, standard, language) in [("CC", "cc", "-std=c99", "c"), ("CXX", "c++", "-std=c++98", "c++")] {
        let mut compiler = compiler(variable, usual, standard);
        compiler.args(["-fsyntax-only", "-x", language]).arg(&header);
        compile(compiler);
    }
}

/// Links the static library and what it needs.
fn compile_and_run_static(program: &str, sources: &[PathBuf]) -> Command {
    let library = library("libgristmill_capi.a");
    let needed = ["-lpthread", "-ldl", "-lm"].map(OsStr::new);
    compile_and_run(program, sources, &[&[library.as_os_str()], &needed[..]].concat())
}

#[test]
fn a_program_in_c_with_the_static_library() {
    let mut program = compile_and_run_static("static", &parts());
    // No thread can be started with a stack of 64 TiB: the calling thread does everything.
    run(program.env("RUST_MIN_STACK", "70368744177664"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_in_c_with_the_shared_library() {
    let library = library("libgristmill_capi.so");
    let folder = library.parent().expect("a library lies in a folder");
    let found = format!("-Wl,-rpath,{}", folder.display());
    let arguments = ["-L".as_ref(), folder.as_os_str(), "-lgristmill_capi".as_ref(), found.as_ref(), "-lm".as_ref()];
    compile_and_run("shared", &parts(), &arguments);
}

#[test]
fn the_example_of_the_readme() {
    let readme = fs::read_to_string(from_root("../../README.md")).expect("the README");
    let (_, example) = readme.split_once("```c\n").expect("an example in C");
    let (example, _) = example.split_once("```").expect("the end of the example");
    let source = in_target("readme.c");
    fs::write(&source, example).expect("a file for the example");
    compile_and_run_static("readme", &[source]);
}
