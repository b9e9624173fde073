//! Policy sets, and what they decide.

use crate::request::{Request, Side, Types};
use cedar_policy::{
    Authorizer, Decision as Cedar, Entities, PolicyId, Schema, ValidationMode, Validator,
};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Why a text is not a policy set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not Cedar.
    #[error("cannot read the policies: {reason}")]
    Syntax {
        /// Cedar's words, with the place.
        reason: String,
    },
    /// A policy has no name to tell a refused caller.
    #[error("the policy `{start}...` has no name\nhelp: put `@id(\"a-name\")` before it")]
    Unnamed {
        /// How the policy begins.
        start: String,
    },
    /// Two policies have one name.
    #[error("two policies are called `{name}`")]
    NamedTwice {
        /// That name.
        name: String,
    },
    /// Templates do nothing until they are linked, and nothing links them here.
    #[error("policy templates (`?principal`, `?resource`) are not used here")]
    Template,
    /// It speaks of what is not in the schema, or compares what cannot be equal.
    #[error("the policies do not fit their schema: {reason}")]
    Invalid {
        /// Cedar's words, one policy a line.
        reason: String,
    },
    /// The schema that ships with this crate cannot be read.
    #[error("cannot read the built-in policy schema: {reason}")]
    Schema {
        /// Cedar's words.
        reason: String,
    },
}

/// What a policy set says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// At least one policy permits and none forbids.
    Permit {
        /// The names of those that permit, sorted.
        policies: Vec<String>,
    },
    /// One forbids, or none permits.
    Forbid {
        /// The name of one that forbids, or [`Decision::NOTHING_PERMITS`].
        policy: String,
    },
}

impl Decision {
    /// The name given where no policy permits.
    pub const NOTHING_PERMITS: &'static str = "nothing-permits-it";
    /// The name given where the request could not be evaluated.
    pub const NOT_EVALUATED: &'static str = "policy-could-not-be-evaluated";

    /// Whether it is permitted.
    #[must_use]
    pub fn is_permit(&self) -> bool {
        matches!(self, Self::Permit { .. })
    }
}

/// The policies of a council or a department, checked against their schema.
pub struct PolicySet {
    policies: cedar_policy::PolicySet,
    names: HashMap<PolicyId, String>,
    authorizer: Authorizer,
    types: Types,
    side: Side,
    actions: Entities,
}

impl PolicySet {
    /// A council's policies, for its authority.
    pub fn council(text: &str) -> Result<Self, PolicyError> {
        Self::checked(
            text,
            Side::Council,
            include_str!("../policies/council.cedarschema"),
        )
    }

    /// A department's policies, for its node.
    pub fn department(text: &str) -> Result<Self, PolicyError> {
        Self::checked(
            text,
            Side::Department,
            include_str!("../policies/department.cedarschema"),
        )
    }

    fn checked(text: &str, side: Side, schema: &str) -> Result<Self, PolicyError> {
        let broken = |e: &dyn fmt::Display| PolicyError::Schema {
            reason: e.to_string(),
        };
        let (schema, _warnings) = Schema::from_cedarschema_str(schema).map_err(|e| broken(&e))?;
        let actions = schema.action_entities().map_err(|e| broken(&e))?;
        let types = Types {
            principal: "Principal".parse().map_err(|e| broken(&e))?,
            product: "Product".parse().map_err(|e| broken(&e))?,
            action: "Action".parse().map_err(|e| broken(&e))?,
        };
        let policies: cedar_policy::PolicySet =
            text.parse()
                .map_err(|e: cedar_policy::ParseErrors| PolicyError::Syntax {
                    reason: e
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; "),
                })?;
        if policies.templates().next().is_some() {
            return Err(PolicyError::Template);
        }
        let names = named(&policies)?;
        let result = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        if !result.validation_passed_without_warnings() {
            let errors = result
                .validation_errors()
                .map(|e| (e.policy_id(), e.to_string()));
            let warnings = result
                .validation_warnings()
                .map(|w| (w.policy_id(), w.to_string()));
            let lines: BTreeSet<String> = errors
                .chain(warnings)
                .map(|(id, what)| format!("{}: {what}", names.get(id).map_or("?", String::as_str)))
                .collect();
            let reason = lines.into_iter().collect::<Vec<_>>().join("; ");
            return Err(PolicyError::Invalid { reason });
        }
        Ok(Self {
            policies,
            names,
            authorizer: Authorizer::new(),
            types,
            side,
            actions,
        })
    }

    /// What these policies say. Never fails: what cannot be evaluated is forbidden.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let not_evaluated = || Decision::Forbid {
            policy: Decision::NOT_EVALUATED.to_owned(),
        };
        let Ok(entities) = request.entities(&self.types, self.side) else {
            return not_evaluated();
        };
        let Ok(entities) = self.actions.clone().add_entities(entities, None) else {
            return not_evaluated();
        };
        let Ok(context) = request.context() else {
            return not_evaluated();
        };
        // The schema was held against the policies; that requests and entities conform to
        // it too is held by a test, not looked up again for each request.
        let Ok(question) = cedar_policy::Request::new(
            request.principal_uid(&self.types),
            request.action_uid(&self.types),
            request.product_uid(&self.types),
            context,
            None,
        ) else {
            return not_evaluated();
        };
        let answer = self
            .authorizer
            .is_authorized(&question, &self.policies, &entities);
        // Cedar skips a policy that fails. A `forbid` must not be lost that way.
        if answer.diagnostics().errors().next().is_some() {
            return not_evaluated();
        }
        let mut named: Vec<String> = answer
            .diagnostics()
            .reason()
            .map(|id| {
                self.names
                    .get(id)
                    .cloned()
                    .unwrap_or_else(|| id.to_string())
            })
            .collect();
        named.sort();
        match answer.decision() {
            Cedar::Allow => Decision::Permit { policies: named },
            Cedar::Deny => Decision::Forbid {
                policy: named
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| Decision::NOTHING_PERMITS.to_owned()),
            },
        }
    }

    /// The names of the policies, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.values().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet")
            .field("side", &self.side)
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

fn named(policies: &cedar_policy::PolicySet) -> Result<HashMap<PolicyId, String>, PolicyError> {
    let mut seen = BTreeSet::new();
    let mut names = HashMap::new();
    for policy in policies.policies() {
        let name = match policy.annotation("id") {
            Some(name) if !name.trim().is_empty() => name.to_owned(),
            _ => {
                let start = policy.to_string().chars().take(60).collect();
                return Err(PolicyError::Unnamed { start });
            }
        };
        if !seen.insert(name.clone()) {
            return Err(PolicyError::NamedTwice { name });
        }
        names.insert(policy.id().clone(), name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action, Asker, Circumstances, DEFAULT_COUNCIL_POLICY, DEFAULT_DEPARTMENT_POLICY, Offer,
    };
    use guildhall_model::{Principal, ProductRef, Purpose, ReleaseClass};
    use std::fmt::Write as _;

    const CLASSES: [ReleaseClass; 4] = [
        ReleaseClass::Open,
        ReleaseClass::Restricted,
        ReleaseClass::Aggregate,
        ReleaseClass::Warranted,
    ];
    const ACTIONS: [Action; 3] = [Action::SeeProduct, Action::ReadRows, Action::ReadCells];

    #[test]
    fn the_default_policies_decide_as_their_matrix_says() {
        let council = PolicySet::council(DEFAULT_COUNCIL_POLICY).unwrap();
        let department = PolicySet::department(DEFAULT_DEPARTMENT_POLICY).unwrap();
        let now = format!(
            "# The council's default policy\n{}\n# The department's default policy\n{}",
            matrix(&council, &ACTIONS, 4),
            matrix(&department, &ACTIONS[1..], 2),
        );
        let kept = include_str!("../vectors/matrix.txt");
        assert!(
            now == kept,
            "vectors/matrix.txt no longer holds; it would now be:\n{now}"
        );
    }

    /// The first `askers` principals, every action and class, asked for a purpose held and offered, for one
    /// that is not offered, and for one that is not held.
    fn matrix(set: &PolicySet, actions: &[Action], askers: usize) -> String {
        let mut out = format!(
            "{:<34} {:<11} {:<11} {:<11} decision\n",
            "principal", "action", "class", "purpose"
        );
        let all = [
            asker("northmoor/ana", &["analyst"]),
            asker("southmoor/bo", &["analyst"]),
            asker("northmoor/loader", &["service"]),
            asker("northmoor/nobody", &[]),
        ];
        for who in &all[..askers] {
            for action in actions {
                for class in CLASSES {
                    for purpose in ["planning", "unoffered", "unheld"] {
                        let said = ask(set, who, *action, &offer(class), &why(purpose));
                        let said = match said {
                            Decision::Permit { policies } => {
                                format!("permit  {}", policies.join(", "))
                            }
                            Decision::Forbid { policy } => format!("forbid  {policy}"),
                        };
                        let roles: Vec<&str> = who.roles.iter().map(String::as_str).collect();
                        let who = format!("{} ({})", who.principal, roles.join(", "));
                        writeln!(
                            out,
                            "{who:<34} {:<11} {:<11} {purpose:<11} {said}",
                            action.as_str(),
                            class.as_str()
                        )
                        .unwrap();
                    }
                }
            }
        }
        out
    }

    #[test]
    fn what_is_sent_to_cedar_fits_the_schemas() {
        for (schema, text, actions) in [
            (
                include_str!("../policies/council.cedarschema"),
                PolicySet::council(DEFAULT_COUNCIL_POLICY).unwrap(),
                &ACTIONS[..],
            ),
            (
                include_str!("../policies/department.cedarschema"),
                PolicySet::department(DEFAULT_DEPARTMENT_POLICY).unwrap(),
                &ACTIONS[1..],
            ),
        ] {
            let (schema, _) = Schema::from_cedarschema_str(schema).unwrap();
            for action in actions {
                for template in [None, Some("sessions".parse().unwrap())] {
                    let who = asker("northmoor/ana", &["analyst"]);
                    let offer = Offer {
                        conforms_to: template,
                        ..offer(ReleaseClass::Open)
                    };
                    let why = why("planning");
                    let request = Request {
                        asker: &who,
                        action: *action,
                        offer: &offer,
                        circumstances: &why,
                    };
                    Entities::from_entities(
                        request.entities(&text.types, text.side).unwrap(),
                        Some(&schema),
                    )
                    .unwrap();
                    cedar_policy::Request::new(
                        request.principal_uid(&text.types),
                        request.action_uid(&text.types),
                        request.product_uid(&text.types),
                        request.context().unwrap(),
                        Some(&schema),
                    )
                    .unwrap();
                }
            }
        }
    }

    #[test]
    fn a_misspelt_attribute_is_found_when_the_policy_is_read() {
        let text =
            r#"@id("a") permit (principal, action, resource) when { resource.klass == "open" };"#;
        assert!(matches!(
            PolicySet::council(text),
            Err(PolicyError::Invalid { .. })
        ));
    }

    #[test]
    fn a_department_cannot_rely_on_roles_that_a_grant_does_not_carry() {
        let text = r#"@id("a") forbid (principal, action, resource) when { principal.roles.contains("supplier") };"#;
        assert!(PolicySet::council(text).is_ok());
        assert!(matches!(
            PolicySet::department(text),
            Err(PolicyError::Invalid { .. })
        ));
    }

    #[test]
    fn a_policy_that_can_never_apply_is_refused() {
        let text = r#"@id("a") forbid (principal == Product::"x.y.z", action, resource);"#;
        assert!(matches!(
            PolicySet::council(text),
            Err(PolicyError::Invalid { .. })
        ));
    }

    #[test]
    fn a_policy_needs_a_name_of_its_own() {
        let unnamed = "permit (principal, action, resource);";
        assert!(matches!(
            PolicySet::council(unnamed),
            Err(PolicyError::Unnamed { .. })
        ));
        let twice = r#"@id("a") permit (principal, action, resource);
            @id("a") forbid (principal, action, resource);"#;
        assert!(matches!(
            PolicySet::council(twice),
            Err(PolicyError::NamedTwice { .. })
        ));
    }

    #[test]
    fn text_that_is_not_cedar_is_refused_with_cedars_words() {
        let error = PolicySet::council("allow all").unwrap_err();
        assert!(matches!(&error, PolicyError::Syntax { reason } if !reason.is_empty()));
    }

    #[test]
    fn templates_are_refused() {
        let text = r#"@id("a") permit (principal == ?principal, action, resource);"#;
        assert!(matches!(
            PolicySet::council(text),
            Err(PolicyError::Template)
        ));
    }

    #[test]
    fn an_empty_set_permits_nothing() {
        let set = PolicySet::council("").unwrap();
        let said = ask(
            &set,
            &asker("northmoor/ana", &["analyst"]),
            Action::SeeProduct,
            &offer(ReleaseClass::Open),
            &why("planning"),
        );
        assert_eq!(
            said,
            Decision::Forbid {
                policy: Decision::NOTHING_PERMITS.to_owned()
            }
        );
    }

    #[test]
    fn a_policy_that_fails_forbids() {
        let text = r#"@id("all") permit (principal, action, resource);
            @id("overflows") forbid (principal, action, resource)
            when { 9223372036854775807 + 1 == 0 };"#;
        let set = PolicySet::council(text).unwrap();
        let said = ask(
            &set,
            &asker("northmoor/ana", &["analyst"]),
            Action::SeeProduct,
            &offer(ReleaseClass::Open),
            &why("planning"),
        );
        assert_eq!(
            said,
            Decision::Forbid {
                policy: Decision::NOT_EVALUATED.to_owned()
            }
        );
    }

    #[test]
    fn a_policy_can_name_one_principal_and_one_product() {
        let text = r#"@id("register") permit (
            principal == Principal::"northmoor/ana",
            action == Action::"ReadRows",
            resource == Product::"northmoor.parking.sessions")
            when { context.columns.containsAll(["ward"]) && context.gateway like "*/gateway/*" };"#;
        let set = PolicySet::council(text).unwrap();
        let offer = offer(ReleaseClass::Restricted);
        let rows = |who: &str| {
            ask(
                &set,
                &asker(who, &[]),
                Action::ReadRows,
                &offer,
                &why("planning"),
            )
            .is_permit()
        };
        assert!(rows("northmoor/ana"));
        assert!(!rows("southmoor/ana"));
    }

    #[test]
    #[ignore = "a measurement"]
    fn what_a_decision_costs() {
        let set = PolicySet::council(DEFAULT_COUNCIL_POLICY).unwrap();
        let who = asker("northmoor/ana", &["analyst"]);
        let (offer, why) = (offer(ReleaseClass::Open), why("planning"));
        let start = std::time::Instant::now();
        for _ in 0..10_000 {
            assert!(ask(&set, &who, Action::ReadRows, &offer, &why).is_permit());
        }
        println!("{:?} a decision", start.elapsed() / 10_000);
    }

    fn ask(
        set: &PolicySet,
        asker: &Asker,
        action: Action,
        offer: &Offer,
        circumstances: &Circumstances,
    ) -> Decision {
        set.decide(&Request {
            asker,
            action,
            offer,
            circumstances,
        })
    }

    fn asker(name: &str, roles: &[&str]) -> Asker {
        let (council, name) = name.split_once('/').unwrap();
        Asker {
            principal: Principal {
                council: council.parse().unwrap(),
                name: name.parse().unwrap(),
            },
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            purposes: purposes(&["planning", "unoffered"]),
        }
    }

    fn offer(class: ReleaseClass) -> Offer {
        Offer {
            product: ProductRef {
                council: "northmoor".parse().unwrap(),
                department: "parking".parse().unwrap(),
                product: "sessions".parse().unwrap(),
            },
            class,
            purposes: purposes(&["planning", "unheld"]),
            conforms_to: None,
        }
    }

    fn why(purpose: &str) -> Circumstances {
        Circumstances {
            purpose: purpose.parse().unwrap(),
            columns: ["ward".parse().unwrap()].into(),
            gateway: "spiffe://northmoor/council/gateway/gw".parse().unwrap(),
            council: "northmoor".parse().unwrap(),
        }
    }

    fn purposes(names: &[&str]) -> BTreeSet<Purpose> {
        names.iter().map(|p| p.parse().unwrap()).collect()
    }
}
