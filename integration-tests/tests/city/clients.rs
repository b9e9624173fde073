//! Stock Python clients at the door: ADBC, `pyarrow.flight`, pandas, polars.

use anyhow::{Context as _, Result, ensure};
use guildhall_testkit::TestCity;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A virtual environment with the packages of `clients/requirements.txt`, made once a target folder.
fn python() -> Result<PathBuf> {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let requirements = clients.join("requirements.txt");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let python = home.join("bin/python");
    let stamp = home.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
        .context("cannot make a virtual environment: Python 3 with venv is needed")?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?} failed\n{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_python_clients_are_served() {
    let city = TestCity::start().await.unwrap();
    let ready = city.folder().join("ready.json");
    city.city.ready().save(&ready).unwrap();
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    tokio::task::spawn_blocking(move || {
        run(Command::new(python()?)
            .args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--tb=short"])
            .arg(&clients)
            .env("GUILDHALL_READY_FILE", ready)
            .env("PYTHONDONTWRITEBYTECODE", "1"))
    })
    .await
    .unwrap()
    .unwrap();
    city.city.stop().await;
}
