//! The files that no test can run here: units, the compose file, what the README says.

use super::council::{NODES, deploy};
use super::program::program;
use std::path::Path;
use std::process::Command;

#[test]
fn every_unit_starts_a_role_from_a_file_that_is_there() {
    let mut roles = Vec::new();
    for (name, text) in files("systemd") {
        let start = text
            .lines()
            .find_map(|l| l.strip_prefix("ExecStart="))
            .unwrap();
        let command = start.strip_prefix("/usr/bin/guildhall ").unwrap();
        let instances: Vec<&str> = match command.contains("%i") {
            true => NODES.iter().map(|(n, _)| *n).collect(),
            false => vec![""],
        };
        assert_eq!(name.contains('@'), command.contains("%i"), "{name}");
        for instance in instances {
            let command = command.replace("%i", instance);
            let config = command.split_once("--config /etc/guildhall/").unwrap().1;
            assert!(
                deploy().join("config").join(config).is_file(),
                "{name} starts from {config}"
            );
            is_command(&command);
            // What systemd makes for it is where its configuration keeps its state.
            let state = text
                .lines()
                .find_map(|l| l.strip_prefix("StateDirectory="))
                .unwrap();
            let folder = format!("\"/var/lib/{}\"", state.replace("%i", instance));
            let configuration =
                std::fs::read_to_string(deploy().join("config").join(config)).unwrap();
            assert!(
                configuration.contains(&folder),
                "{config} keeps its state in {folder}"
            );
            roles.push(config.to_owned());
        }
    }
    roles.sort();
    let mut all: Vec<String> = files("config").into_iter().map(|(name, _)| name).collect();
    all.sort();
    assert_eq!(roles, all);
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: systemd-analyze is not on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program().display().to_string();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for (name, text) in files("systemd") {
        let file = folder.path().join(name.replace('@', "@parking"));
        std::fs::write(&file, text.replace("/usr/bin/guildhall", &program)).unwrap();
        verify.arg(file);
    }
    let output = verify.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    // Units of the machine itself may be at fault, too.
    assert!(!complaints.contains("guildhall"), "{complaints}");
}

#[test]
fn the_compose_file_gives_every_role_the_configuration_it_starts_from() {
    let text = std::fs::read_to_string(deploy().join("compose/compose.yaml")).unwrap();
    let mut given = 0;
    for service in text.split_once("\nservices:\n").unwrap().1.split("\n\n") {
        let Some(command) = service
            .lines()
            .find_map(|l| l.trim().strip_prefix("command: ["))
        else {
            continue;
        };
        let command = command.trim_end_matches(']').replace(", ", " ");
        is_command(&command);
        let inside = command.split_once("--config ").unwrap().1;
        let mount = service.lines().find_map(|l| {
            l.trim()
                .strip_prefix("- ../config/")?
                .strip_suffix(&format!(":{inside}:ro"))
        });
        let file = mount.unwrap_or_else(|| panic!("nothing is mounted at {inside} in {service}"));
        assert!(deploy().join("config").join(file).is_file(), "{file}");
        given += 1;
    }
    assert_eq!(given, NODES.len() + 3);
}

#[test]
fn the_first_start_of_the_compose_file_is_made_of_commands_that_there_are() {
    let file = deploy().join("compose/first-start.sh");
    assert!(
        Command::new("sh")
            .arg("-n")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    let text = std::fs::read_to_string(file).unwrap().replace("\\\n", " ");
    let mut seen = 0;
    for piece in text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .flat_map(|l| l.split('|'))
    {
        let piece = piece
            .trim()
            .replace('"', "")
            .replace("$department", "parking");
        let command = if let Some((_, rest)) = piece.split_once("/usr/bin/guildhall ") {
            rest.replace("$@; }", "--role gateway --name main")
        } else if let Some(rest) = piece.strip_prefix("role ") {
            rest.split_once(' ').unwrap().1.to_owned()
        } else if let Some(rest) = piece.strip_prefix("invite --") {
            format!("authority invite --{rest}")
        } else {
            continue;
        };
        is_command(&command);
        seen += 1;
    }
    assert_eq!(seen, 9, "{text}");
}

#[test]
fn the_commands_in_the_readme_are_commands() {
    let text = std::fs::read_to_string(deploy().join("README.md")).unwrap();
    let blocks = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let inline = text
        .split("```")
        .step_by(2)
        .flat_map(|t| t.split('`').skip(1).step_by(2));
    let mut seen = 0;
    for line in blocks.chain(inline) {
        let line = line.split(['#', '>', '|']).next().unwrap().trim();
        let Some((_, command)) = line
            .split_once("guildhall ")
            .filter(|(before, _)| before.is_empty() || before.ends_with("-- "))
        else {
            continue;
        };
        is_command(command);
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

/// The program knows the subcommand and every flag of it, and what they are given can be read.
fn is_command(command: &str) {
    let output = Command::new(program())
        .args(command.split_whitespace())
        .arg("--help")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "guildhall {command}: {error}");
    let usage = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = command
        .split_whitespace()
        .take_while(|w| !w.starts_with('-'))
        .collect();
    assert!(
        usage.contains(&format!(
            "guildhall {}",
            words[..2.min(words.len())].join(" ")
        )),
        "{usage}"
    );
}

fn files(folder: &str) -> Vec<(String, String)> {
    let read = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    let entries = std::fs::read_dir(deploy().join(folder)).unwrap();
    entries.map(|e| read(&e.unwrap().path())).collect()
}
