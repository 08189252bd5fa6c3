//! `cfdot completion SHELL`: a script that completes the names of commands and flags.

use crate::verbs::VERBS;

pub(crate) const NAME: &str = "completion";
pub(crate) const ABOUT: &str = "Print a script that completes commands and flags in a shell";

pub(crate) struct Shell {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The text that explains how to load the script.
    pub(crate) long: &'static str,
    script: fn() -> String,
}

pub(crate) const SHELLS: [Shell; 4] = [
    Shell {
        name: "bash",
        about: "Print the script for bash",
        long: "Prints the script for bash. Load it with: source <(cfdot completion bash)",
        script: bash,
    },
    Shell {
        name: "fish",
        about: "Print the script for fish",
        long: "Prints the script for fish. Load it with: cfdot completion fish | source",
        script: fish,
    },
    Shell {
        name: "powershell",
        about: "Print the script for PowerShell",
        long: "Prints the script for PowerShell. Load it with: cfdot completion powershell | Out-String | Invoke-Expression",
        script: powershell,
    },
    Shell {
        name: "zsh",
        about: "Print the script for zsh",
        long: "Prints the script for zsh. Load it with: source <(cfdot completion zsh)",
        script: zsh,
    },
];

impl Shell {
    pub(crate) fn script(&self) -> String {
        (self.script)()
    }
}

fn names() -> String {
    VERBS
        .iter()
        .filter(|verb| verb.deprecated.is_none())
        .map(|verb| verb.name)
        .chain([NAME])
        .collect::<Vec<_>>()
        .join(" ")
}

fn flags_of_each(line: impl Fn(&str, &str) -> String) -> String {
    let flags = |verb: &crate::verbs::Verb| {
        let mut flags = verb.flags();
        flags.push(crate::help::help_flag());
        let flags: Vec<_> = flags.iter().map(|f| format!("--{}", f.name)).collect();
        flags.join(" ")
    };
    VERBS
        .iter()
        .map(|verb| line(verb.name, &flags(verb)))
        .collect()
}

fn bash() -> String {
    let cases = flags_of_each(|name, flags| format!("    {name}) words=\"{flags}\" ;;\n"));
    format!(
        "_cfdot() {{\n  local words=\"{}\"\n  [ \"$COMP_CWORD\" -gt 1 ] && case \"${{COMP_WORDS[1]}}\" in\n{cases}  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -o default -F _cfdot cfdot\n",
        names()
    )
}

fn zsh() -> String {
    let cases = flags_of_each(|name, flags| format!("    {name}) compadd -- {flags} ;;\n"));
    format!(
        "#compdef cfdot\n_cfdot() {{\n  if (( CURRENT == 2 )); then compadd -- {}; return; fi\n  case \"$words[2]\" in\n{cases}  esac\n}}\ncompdef _cfdot cfdot\n",
        names()
    )
}

fn fish() -> String {
    let flags = flags_of_each(|name, flags| {
        format!("complete -c cfdot -n '__fish_seen_subcommand_from {name}' -a '{flags}'\n")
    });
    format!(
        "complete -c cfdot -f -n __fish_use_subcommand -a '{}'\n{flags}",
        names()
    )
}

fn powershell() -> String {
    let cases = flags_of_each(|name, flags| format!("    '{name}' {{ '{}' -split ' ' }}\n", flags));
    format!(
        "Register-ArgumentCompleter -Native -CommandName cfdot -ScriptBlock {{\n  param($word, $line, $position)\n  $typed = $line.ToString().Split(' ')\n  $words = if ($typed.Count -le 2) {{ '{}' -split ' ' }} else {{ switch ($typed[1]) {{\n{cases}  }} }}\n  $words | Where-Object {{ $_ -like \"$word*\" }}\n}}\n",
        names()
    )
}
