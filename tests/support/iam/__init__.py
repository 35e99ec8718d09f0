"""IAM as it stands between the release functions and AWS: roles of the templates, enforced.

`roles` reads what each function may do, `requests` what a request to AWS asks for, `policies`
decides as IAM does, and `Guard` has the stand-ins of AWS refuse the rest in AWS's words.
`reference` is AWS's service authorization data: which resources and conditions an action knows.
"""

from support.iam.guard import Guard, guarded, key_of
from support.iam.roles import Role, loaded, roles

__all__ = ["Guard", "Role", "guarded", "key_of", "loaded", "roles"]
