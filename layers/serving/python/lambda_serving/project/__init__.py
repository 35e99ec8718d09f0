"""A project of a user's own: a template, models, the system that it deploys, and what is deployed.

    template.yaml     parameters, the system as one nested stack, a block for each model
    samconfig.toml    the environments: names of stacks, values of parameters
    models/NAME/N     the versions of a model, as exported
    infra/            what `vendored` writes; `infra/version` marks a project

`environments` finds a project, `folder` reads its models, `template` edits their blocks,
`starting` makes a new project, `upgrading` renews its `infra/`, `adding` takes a model in,
`golden_answers` asks models what they must answer. `sam` builds and deploys; `deployed` looks at
what came of it.
"""
