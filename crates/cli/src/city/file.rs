//! `city.toml`: which councils, departments, accounts and questions a city has.

use anyhow::{Context as _, Result, bail};
use guildhall_model::{CouncilName, DepartmentName, PrincipalName, ProductRef, Purpose};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A city, as its folder describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CityFile {
    /// An open product of a thousand rows or more, for those who want to try the stream.
    open_product: String,
    /// The councils.
    #[serde(rename = "council")]
    pub councils: Vec<CouncilEntry>,
    /// Accounts of analysts.
    #[serde(rename = "account", default)]
    pub accounts: Vec<AccountEntry>,
    /// Questions that the demo asks.
    #[serde(rename = "question", default)]
    pub questions: Vec<QuestionEntry>,
    /// The folder that it was read from.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One council.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CouncilEntry {
    /// Its name, and that of its folder.
    pub name: CouncilName,
    /// What may be asked for.
    pub purposes: BTreeSet<Purpose>,
    /// A Cedar policy file of the council, relative to the city's folder.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// Its departments.
    #[serde(rename = "department")]
    pub departments: Vec<DepartmentEntry>,
}

/// One department.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepartmentEntry {
    /// Its name, and that of its folder.
    pub name: DepartmentName,
    /// A Cedar policy file of the department, relative to the city's folder.
    #[serde(default)]
    pub policy: Option<PathBuf>,
}

/// One account.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// Its name.
    pub name: PrincipalName,
    /// Its council.
    pub council: CouncilName,
    /// What policies may call it.
    pub roles: BTreeSet<String>,
    /// What it may ask for.
    pub purposes: BTreeSet<Purpose>,
    /// Made up and kept in the data folder if it is not given.
    #[serde(default)]
    pub password: Option<String>,
}

impl std::fmt::Debug for AccountEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountEntry")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A question of the demo.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionEntry {
    /// In words.
    pub title: String,
    /// Why it is asked.
    pub purpose: Purpose,
    /// In SQL.
    pub sql: String,
}

impl CityFile {
    /// Reads `city.toml` in `folder` and checks that its parts fit.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("city.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut city: Self =
            toml::from_str(&text).with_context(|| format!("`{}` is not a city", path.display()))?;
        folder.clone_into(&mut city.folder);
        city.check()
            .with_context(|| format!("`{}` does not hold together", path.display()))?;
        Ok(city)
    }

    /// The open product.
    pub fn open_product(&self) -> Result<ProductRef> {
        let parts: Vec<&str> = self.open_product.split('.').collect();
        let [council, department, product] = parts.as_slice() else {
            bail!("`open_product` is not of the form council.department.product");
        };
        Ok(ProductRef {
            council: council.parse()?,
            department: department.parse()?,
            product: product.parse()?,
        })
    }

    /// Where the imports and products of a department are.
    #[must_use]
    pub fn department_folder(&self, council: &CouncilName, department: &DepartmentName) -> PathBuf {
        self.folder.join(council.as_str()).join(department.as_str())
    }

    fn check(&self) -> Result<()> {
        let open = self.open_product()?;
        if self.councils.is_empty() {
            bail!("there is no [[council]]");
        }
        let mut seen = BTreeSet::new();
        for council in &self.councils {
            if council.name.as_str() == "city" {
                bail!("no council can be called `city`: that is the union of all");
            }
            if !seen.insert((council.name.to_string(), String::new())) {
                bail!("council `{}` is there twice", council.name);
            }
            for department in &council.departments {
                if !seen.insert((council.name.to_string(), department.name.to_string())) {
                    bail!(
                        "department `{}` of `{}` is there twice",
                        department.name,
                        council.name
                    );
                }
                let folder = self.department_folder(&council.name, &department.name);
                if !folder.is_dir() {
                    bail!(
                        "department `{}` has no folder `{}`",
                        department.name,
                        folder.display()
                    );
                }
            }
        }
        if !seen.contains(&(open.council.to_string(), open.department.to_string())) {
            bail!("`open_product` is `{open}`, but there is no such department");
        }
        for account in &self.accounts {
            let Some(council) = self.councils.iter().find(|c| c.name == account.council) else {
                bail!(
                    "account `{}` is of `{}`, which is no [[council]]",
                    account.name,
                    account.council
                );
            };
            if let Some(stray) = account.purposes.difference(&council.purposes).next() {
                bail!(
                    "account `{}` has purpose `{stray}`, which `{}` does not publish",
                    account.name,
                    council.name
                );
            }
        }
        Ok(())
    }
}
