//! Parts of forms. A form is a plain POST; what was typed is kept (never a password or a key that
//! was private), an error stands beside its field and once more in the summary above.

use leptos::prelude::*;

/// What was typed into a field, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    pub value: String,
    pub error: Option<String>,
}

impl Typed {
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), error: None }
    }

    pub fn wrong(value: impl Into<String>, error: impl Into<String>) -> Self {
        Self { value: value.into(), error: Some(error.into()) }
    }
}

/// "What was wrong", with links to the fields; `general` is about no single field.
pub fn summary(general: Option<&str>, fields: &[(&str, &str, &Typed)]) -> Option<AnyView> {
    let wrong: Vec<_> = fields.iter().filter(|(_, _, typed)| typed.error.is_some()).collect();
    if wrong.is_empty() && general.is_none() {
        return None;
    }
    let title = match (general, wrong.len()) {
        (Some(text), _) => text.to_owned(),
        (None, 1) => "One thing to correct:".to_owned(),
        (None, n) => format!("{n} things to correct:"),
    };
    let links: Vec<_> = wrong
        .iter()
        .enumerate()
        .map(|(at, (id, label, _))| {
            let href = format!("#{id}");
            view! {
                {(at > 0).then_some(", ")}
                <a href=href>{(*label).to_owned()}</a>
            }
        })
        .collect();
    let kept = (!wrong.is_empty()).then_some(". What you typed elsewhere is kept.");
    Some(
        view! {
            <div class="notice bad" role="alert">
                <div>
                    <strong>{title}</strong>
                    " "
                    {links}
                    {kept}
                </div>
            </div>
        }
        .into_any(),
    )
}

/// One input with its label, hint and error. The name of the field is its id.
#[component]
pub fn Field(
    #[prop(into)] id: String,
    #[prop(into)] label: String,
    typed: Typed,
    #[prop(default = "text")] kind: &'static str,
    #[prop(optional)] autocomplete: Option<&'static str>,
    #[prop(optional)] pattern: Option<&'static str>,
    #[prop(optional)] minlength: Option<&'static str>,
    #[prop(optional)] step: Option<&'static str>,
    #[prop(optional)] inputmode: Option<&'static str>,
    #[prop(optional, into)] hint: Option<ViewFn>,
    /// It may be left empty.
    #[prop(optional)]
    empty: bool,
) -> impl IntoView {
    let described = described(&id, typed.error.is_some(), hint.is_some());
    let (error, hint_id) = (error(&id, typed.error.clone()), format!("{id}-hint"));
    // A password is never sent back.
    let value = (kind != "password").then_some(typed.value);
    let spellcheck = (kind == "text").then_some("false");
    view! {
        <div class="field">
            <label for=id.clone()>{label}</label>
            <input
                id=id.clone()
                name=id
                type=kind
                autocomplete=autocomplete
                pattern=pattern
                minlength=minlength
                step=step
                inputmode=inputmode
                spellcheck=spellcheck
                value=value
                aria-invalid=typed.error.is_some().then_some("true")
                aria-describedby=described
                required=!empty
            />
            {error}
            {hint
                .map(|hint| {
                    view! {
                        <p class="hint" id=hint_id>
                            {hint.run()}
                        </p>
                    }
                })}
        </div>
    }
}

/// A password that is chosen.
#[component]
pub fn NewPassword(label: &'static str, typed: Typed) -> impl IntoView {
    view! {
        <Field
            id="password"
            label=label
            typed=typed
            kind="password"
            autocomplete="new-password"
            minlength="12"
            hint=|| "At least 12 characters. A few unrelated words are easy to remember and hard to guess."
        />
    }
}

/// Lines to paste, with their label, hint and error.
#[component]
pub fn Area(
    id: &'static str,
    label: &'static str,
    rows: &'static str,
    typed: Typed,
    #[prop(optional)] placeholder: Option<&'static str>,
    #[prop(into)] hint: ViewFn,
) -> impl IntoView {
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <textarea
                id=id
                name=id
                rows=rows
                spellcheck="false"
                autocomplete="off"
                placeholder=placeholder
                aria-invalid=typed.error.is_some().then_some("true")
                aria-describedby=described(id, typed.error.is_some(), true)
                required
                inner_html=escaped(&typed.value)
            ></textarea>
            {error(id, typed.error)}
            <p class="hint" id=format!("{id}-hint")>
                {hint.run()}
            </p>
        </div>
    }
}

/// Text for the inside of an element that Leptos does not escape: a `textarea`.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The error beside a field.
pub fn error(id: &str, error: Option<String>) -> Option<AnyView> {
    let text = error?;
    Some(
        view! {
            <p class="err" id=format!("{id}-err")>
                {text}
            </p>
        }
        .into_any(),
    )
}

/// The ids that describe a field, its error first.
fn described(id: &str, wrong: bool, hint: bool) -> Option<String> {
    match (wrong, hint) {
        (false, false) => None,
        (true, false) => Some(format!("{id}-err")),
        (false, true) => Some(format!("{id}-hint")),
        (true, true) => Some(format!("{id}-err {id}-hint")),
    }
}
