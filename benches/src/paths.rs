//! Paths on the command line of a bench.
//!
//! Cargo starts benches in the folder of their package, but a path that a user types means the folder that cargo was
//! called from.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// `path` as the user meant it: relative ones start from the folder that cargo was called from, or from the current
/// folder when the bench was started by hand.
pub fn resolve(path: &Path) -> PathBuf {
    invocation_dir().join(path)
}

fn invocation_dir() -> PathBuf {
    let current = env::current_dir().unwrap_or_default();
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    if package.as_deref() != Some(&current) {
        return current;
    }
    cargo_dir().or_else(|| shell_dir(env::var_os("PWD").map(PathBuf::from))).unwrap_or(current)
}

/// The folder that the parent process works in, if that process is cargo.
#[cfg(target_os = "linux")]
fn cargo_dir() -> Option<PathBuf> {
    let parent = format!("/proc/{}", std::os::unix::process::parent_id());
    let name = fs::read_to_string(format!("{parent}/comm")).ok()?;
    (name.trim() == "cargo").then(|| fs::read_link(format!("{parent}/cwd")).ok()).flatten()
}

#[cfg(not(target_os = "linux"))]
fn cargo_dir() -> Option<PathBuf> {
    None
}

/// Cargo changes the folder of a bench but leaves the variable that the shell set.
fn shell_dir(pwd: Option<PathBuf>) -> Option<PathBuf> {
    pwd.filter(|dir| dir.is_absolute() && fs::metadata(dir).is_ok_and(|meta| meta.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_stay() {
        let path = env::temp_dir().join("out.json");
        assert_eq!(resolve(&path), path);
    }

    #[test]
    fn relative_paths_start_where_cargo_was_called() {
        // The test harness is started as benches are: by cargo, in the folder of the package.
        let resolved = resolve(Path::new("out.json"));
        assert!(resolved.is_absolute());
        assert_eq!(resolved, invocation_dir().join("out.json"));
        assert!(invocation_dir().is_dir());
    }

    #[test]
    fn the_shell_must_name_a_real_folder() {
        let dir = env::temp_dir();
        assert_eq!(shell_dir(Some(dir.clone())), Some(dir));
        assert_eq!(shell_dir(Some("relative".into())), None);
        assert_eq!(shell_dir(Some("/no/such/folder".into())), None);
        assert_eq!(shell_dir(None), None);
    }
}
