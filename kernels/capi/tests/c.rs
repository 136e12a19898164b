//! A program in C, compiled against the header and linked with each library, must find everything as the header says.
#![cfg(unix)]

use std::{
    env,
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

fn compile_and_run(library: &Path, program: &str, libraries: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    cc.arg("-I").arg(root.join("include")).arg(root.join("tests/program.c")).arg(library).args(libraries);
    let folder = library.parent().expect("a library lies in a folder");
    if cfg!(target_os = "linux") {
        cc.arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    let compiled = cc.output().expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).output().expect("the compiled program");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn a_program_in_c_with_the_static_library() {
    compile_and_run(&library("libgristmill_capi.a"), "static", &["-lpthread", "-ldl", "-lm"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_in_c_with_the_shared_library() {
    compile_and_run(&library("libgristmill_capi.so"), "shared", &["-lm"]);
}
