//! SET and SHOW.

use super::{Call, Inner};
use crate::error::DoorError;
use crate::session::{Options, Setting};
use crate::ticket::{SettingValue, Settings};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

impl Inner {
    /// Changes a session option, once the value is known to be one the caller may have.
    pub(super) async fn set(
        &self,
        call: &Call,
        name: &str,
        value: &str,
    ) -> Result<Settings, DoorError> {
        let (setting, options) = self.checked(call, name, value).await?;
        self.sessions.keep(&call.session, options.clone()).await;
        Ok(one_setting(setting, &options))
    }

    pub(super) async fn would_set(
        &self,
        call: &Call,
        name: &str,
        value: &str,
    ) -> Result<Settings, DoorError> {
        let (setting, options) = self.checked(call, name, value).await?;
        Ok(one_setting(setting, &options))
    }

    async fn checked(
        &self,
        call: &Call,
        name: &str,
        value: &str,
    ) -> Result<(Setting, Options), DoorError> {
        let setting = Setting::find(name).ok_or_else(|| no_setting(name))?;
        let mut options = self.sessions.stored(&call.session).await;
        options.set(setting, value)?;
        if let (Setting::Purpose, Some(purpose)) = (setting, &options.purpose) {
            call.caller.holds(purpose)?;
        }
        Ok((setting, options))
    }
}

fn no_setting(name: &str) -> DoorError {
    let known = Setting::ALL.map(Setting::name).join("`, `");
    let name: String = name.chars().take(64).collect();
    DoorError::invalid(format!(
        "there is no setting `{name}`\nhelp: there are `{known}`"
    ))
}

pub(super) fn show(call: &Call, name: &str) -> Result<Settings, DoorError> {
    if name.is_empty() {
        let values = Setting::ALL
            .into_iter()
            .map(|s| value_of(s, &call.options))
            .collect();
        return Ok(Settings { values });
    }
    let setting = Setting::find(name).ok_or_else(|| no_setting(name))?;
    Ok(one_setting(setting, &call.options))
}

fn one_setting(setting: Setting, options: &Options) -> Settings {
    Settings {
        values: vec![value_of(setting, options)],
    }
}

fn value_of(setting: Setting, options: &Options) -> SettingValue {
    SettingValue {
        name: setting.name().to_owned(),
        value: options.show(setting),
    }
}

pub(super) fn settings_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("value", DataType::Utf8, true),
    ]))
}
