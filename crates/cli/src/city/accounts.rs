//! Passwords of a city's accounts, made up once and kept in its data folder.

use super::file::CityFile;
use anyhow::{Context as _, Result};
use guildhall_identity::{load_secret, save_secret};
use guildhall_model::{CouncilName, PrincipalName};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::BTreeMap;
use std::path::Path;

/// Passwords by council and name.
pub(super) type Passwords = BTreeMap<(CouncilName, PrincipalName), String>;

/// The passwords of the city's accounts: those it gives, and for the others those of last time.
pub(super) fn passwords(city: &CityFile, data: &Path) -> Result<Passwords> {
    let file = data.join("accounts.json");
    let kept: BTreeMap<String, String> = if file.exists() {
        serde_json::from_slice(&load_secret(&file)?).with_context(|| {
            format!(
                "`{}` is damaged; remove it for new passwords",
                file.display()
            )
        })?
    } else {
        BTreeMap::new()
    };
    let mut passwords = Passwords::new();
    for account in &city.accounts {
        let key = format!("{}/{}", account.council, account.name);
        let password = match (&account.password, kept.get(&key)) {
            (Some(given), _) => given.clone(),
            (None, Some(kept)) => kept.clone(),
            (None, None) => make_up()?,
        };
        passwords.insert((account.council.clone(), account.name.clone()), password);
    }
    let all: BTreeMap<String, &String> = passwords
        .iter()
        .map(|((council, name), p)| (format!("{council}/{name}"), p))
        .collect();
    save_secret(&file, &serde_json::to_vec_pretty(&all)?)?;
    Ok(passwords)
}

/// 100 random bits.
fn make_up() -> Result<String> {
    let mut bytes = [0_u8; 20];
    SystemRandom::new()
        .fill(&mut bytes)
        .ok()
        .context("this machine gives no randomness")?;
    let alphabet = b"abcdefghjkmnpqrstuvwxyz23456789x";
    Ok(bytes
        .iter()
        .map(|b| char::from(alphabet[usize::from(*b % 32)]))
        .collect())
}
