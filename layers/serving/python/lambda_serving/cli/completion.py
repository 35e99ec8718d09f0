"""`lambda-serving completion`: the script that makes a shell complete the command."""

import click

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands and options.

    Example: eval "$(lambda-serving completion bash)" in ~/.bashrc; for zsh likewise in ~/.zshrc;
    for fish: lambda-serving completion fish > ~/.config/fish/completions/lambda-serving.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None, shell
    root = context.find_root()
    click.echo(made(root.command, {}, "lambda-serving", "_LAMBDA_SERVING_COMPLETE").source())
