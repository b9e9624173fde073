//! Python with the packages of `clients/requirements.txt`.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A virtual environment, made once a target folder; tests that need it at the same time wait.
pub(crate) fn python() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/requirements.txt");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let python = home.join("bin/python");
    let stamp = home.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))
    .context("cannot make a virtual environment: Python 3 with venv is needed")?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Runs the Python tests in `folder`, with the variables given.
pub(crate) fn pytest(folder: &Path, variables: &[(&str, &Path)]) -> Result<()> {
    run(Command::new(python()?)
        .args([
            "-m",
            "pytest",
            "--quiet",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            "--durations=5",
        ])
        .arg(folder)
        .envs(variables.iter().copied())
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn run(command: &mut Command) -> Result<()> {
    let done = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let told = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "{command:?} failed\n{told}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    eprint!("{told}");
    Ok(())
}
