import json
from emulator import *
def test_x(aws):
    for k,v in aws.outputs.items():
        for o in v: print(k,o,v[o])
    for s in STAGES:
        for r in aws.client("cloudformation").describe_stack_resources(StackName=f"pmip-{s}")["StackResources"]: print(r["LogicalResourceId"],r["ResourceType"],r.get("PhysicalResourceId"))
    iam=aws.client("iam")
    for r in iam.list_roles()["Roles"]:
        for p in iam.list_role_policies(RoleName=r["RoleName"])["PolicyNames"]: print(r["RoleName"],json.dumps(iam.get_role_policy(RoleName=r["RoleName"],PolicyName=p)["PolicyDocument"]))
