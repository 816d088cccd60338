//! The client's figures, read from the text that Prometheus reads: they are told nowhere else by outcome and by stream.

/// One figure: its name, its labels and its value.
struct Figure {
    name: String,
    labels: Vec<(String, String)>,
    value: u64,
}

/// Figures of one moment.
pub(super) struct Figures(Vec<Figure>);

impl Figures {
    /// Of OpenMetrics text; a line that is none, or no whole number, is passed over.
    pub(super) fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
    }

    /// All of one name together.
    pub(super) fn sum(&self, name: &str) -> u64 {
        self.named(name).map(|figure| figure.value).sum()
    }

    /// Of one name, all those with this label.
    pub(super) fn with(&self, name: &str, label: &str, value: &str) -> u64 {
        let has = |figure: &&Figure| figure.label(label) == Some(value);
        self.named(name).filter(has).map(|figure| figure.value).sum()
    }

    /// Of one name, by the values of a label.
    pub(super) fn by<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.named(name).filter_map(move |figure| Some((figure.label(label)?, figure.value)))
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Figure> {
        self.0.iter().filter(move |figure| figure.name == name)
    }
}

impl Figure {
    fn label(&self, label: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str())
    }
}

/// `name{label="value",...} 1`
fn line(line: &str) -> Option<Figure> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, after) = inside.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            inside = after;
        }
        rest = inside.strip_prefix('}')?;
    }
    let value = rest.trim().split(' ').next()?.parse().ok()?;
    Some(Figure { name: name.to_owned(), labels, value })
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_name_and_label_and_what_is_none_is_passed_over() {
        let text =
            "# TYPE a counter\na_total{of=\"x\",why=\"no\"} 3\na_total{of=\"y\",why=\"no\"} 4\nb 5\nc 0.5\nd{ 1\n# EOF";
        let figures = Figures::read(text);
        assert_eq!((figures.sum("a_total"), figures.with("a_total", "of", "y"), figures.sum("b")), (7, 4, 5));
        assert_eq!(figures.by("a_total", "of").collect::<Vec<_>>(), [("x", 3), ("y", 4)]);
        assert_eq!((figures.sum("c"), figures.sum("d"), figures.sum("e")), (0, 0, 0));
    }

    #[test]
    fn a_label_is_read_as_it_was_whatever_stands_in_it() {
        let figures = Figures::read(r#"a_total{stream="0x/\"},\\ =\"{"} 1"#);
        assert_eq!(figures.by("a_total", "stream").collect::<Vec<_>>(), [("0x/\"},\\ =\"{", 1)]);
    }
}
