//! Tables: how their columns are headed and summed up.

use leptos::prelude::*;

/// The words above the columns, each with the column's class: `n` figures, `gone` not on a phone, `vh` a word that is only
/// spoken.
pub fn heads(columns: &[(&str, &'static str)]) -> AnyView {
    let head = |&(word, class): &(&str, &'static str)| {
        let word = word.to_owned();
        let word = match class.ends_with("vh") {
            true => view! { <span class="vh">{word}</span> }.into_any(),
            false => word.into_any(),
        };
        let class = Some(class.trim_end_matches("vh").trim_end()).filter(|class| !class.is_empty());
        view! { <th scope="col" class=class>{word}</th> }
    };
    let heads: Vec<_> = columns.iter().map(head).collect();
    view! { <thead><tr>{heads}</tr></thead> }.into_any()
}

/// The last line of amounts: each cell with its class, as in [`heads`].
pub fn sum(cells: &[(&str, &'static str)]) -> AnyView {
    let cell = |&(word, class): &(&str, &'static str)| {
        view! { <td class=(!class.is_empty()).then_some(class)>{word.to_owned()}</td> }
    };
    let cells: Vec<_> = cells.iter().map(cell).collect();
    view! { <tfoot><tr><th scope="row">"Sum"</th>{cells}</tr></tfoot> }.into_any()
}
