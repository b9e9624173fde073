//! Python with the packages of a requirements file.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A Python with the packages of `requirements`, in a virtual environment in the folder `home`, made once for each
/// state of that file; tests of one process that need one at the same time wait.
pub fn python(requirements: &Path, home: &Path) -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let python = home.join("bin/python");
    let stamp = home.join("requirements.txt");
    let wanted = std::fs::read_to_string(requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(home))
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
        .arg(requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Runs the Python tests in `folder` by `python`, with the variables given; gives what they printed.
pub fn pytest(python: &Path, folder: &Path, variables: &[(&str, &Path)]) -> Result<String> {
    run(Command::new(python)
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

/// Runs `command` to its end, and gives what it printed; fails with all that it said if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let done = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let told = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "{command:?} failed\n{told}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(told.into_owned())
}
