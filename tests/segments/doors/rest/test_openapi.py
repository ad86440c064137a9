import pytest
from openapi_spec_validator import validate

from tests.rest import Rest


async def test_document_is_openapi_and_names_every_operation(rest: Rest) -> None:
    answer = await rest.ask("GET", "/openapi.json")

    validate(answer.body)
    assert answer.body["openapi"].startswith("3.1")
    assert {
        (method, path) for path, methods in answer.body["paths"].items() for method in methods
    } == {
        ("post", "/login"),
        ("post", "/login/refresh"),
        ("post", "/login/revoke"),
        ("post", "/audience"),
        ("post", "/audience/upload/{id}"),
        ("get", "/audience/upload/{id}"),
        ("put", "/uploads/{action}/{key}/{filename}"),
        ("post", "/realtime/audience/{id}"),
        ("get", "/audiences"),
        ("post", "/audiences"),
        ("get", "/audiences/{audienceId}"),
        ("patch", "/audiences/{audienceId}"),
        ("get", "/audiences/{audienceId}/counts"),
        ("get", "/audiences/{audienceId}/uploads"),
        ("post", "/audiences/{audienceId}/signed-urls"),
        ("post", "/search/audiences"),
        ("post", "/search/audiences/v2"),
        ("get", "/deliveries"),
        ("get", "/deliveries/{transactionId}"),
        ("get", "/recipients"),
        ("get", "/audit"),
        ("post", "/core/ais/external-audience"),
        ("get", "/core/ais/external-audience/operations/{operationId}"),
        ("patch", "/core/ais/external-audience/{audienceId}"),
        ("delete", "/core/ais/external-audience/{audienceId}"),
        ("post", "/core/ais/external-audience/{audienceId}/runs"),
        ("get", "/core/ais/external-audience/{audienceId}/runs"),
        ("get", "/core/ais/external-audience/{audienceId}/runs/{runId}"),
        ("post", "/data-subject-requests"),
        ("post", "/data-subject-requests/test"),
        ("get", "/data-subject-requests/{transactionId}"),
        ("get", "/data-subject-report/{transactionId}"),
        ("get", "/reports/{transactionId}.json"),
        ("post", "/search/data-subject-requests"),
        ("post", "/dsr"),
        ("post", "/ping"),
        ("get", "/oath"),
        ("get", "/submit"),
        ("post", "/account/login"),
        ("post", "/account/logout"),
        ("post", "/campaign/createcampaign"),
        ("post", "/campaign/create"),
        ("get", "/organisation/loadplatformaccounts"),
        ("get", "/organistion/loadplatformaccounts"),
        ("post", "/audience/createcrmaudience"),
        ("post", "/audience/create/api/audience/createcrmaudience"),
        ("post", "/audience/update"),
        ("post", "/audience/activate"),
        ("get", "/audience/loadAudienceById/{audienceId}"),
        ("delete", "/audience/delete"),
    }


async def test_operations_that_need_a_caller_say_so(rest: Rest) -> None:
    paths = (await rest.ask("GET", "/openapi.json")).body["paths"]

    assert paths["/audience"]["post"]["security"] == [{"userToken": []}]
    submit = paths["/data-subject-requests"]["post"]
    assert submit["security"] == [{"privacyToken": []}]
    assert "security" not in paths["/login"]["post"]
    assert "401" in paths["/audience"]["post"]["responses"]


async def test_operations_that_need_several_headers_name_them_all(rest: Rest) -> None:
    document = (await rest.ask("GET", "/openapi.json")).body
    creation = document["paths"]["/core/ais/external-audience"]["post"]

    [needed] = creation["security"]
    schemes = document["components"]["securitySchemes"]
    assert {schemes[name].get("name", "Authorization") for name in needed} == {
        "Authorization",
        "x-api-key",
        "x-gw-ims-org-id",
        "x-sandbox-name",
    }
    assert [parameter["name"] for parameter in creation["parameters"]] == ["Idempotency-Key"]
    assert {"202", "400", "401", "409", "422", "429", "500"} <= creation["responses"].keys()


async def test_document_says_why_there_are_no_lookalikes(rest: Rest) -> None:
    schemas = (await rest.ask("GET", "/openapi.json")).body["components"]["schemas"]

    can_create = schemas["AudienceView"]["properties"]["canCreateLookalike"]
    assert can_create["description"].startswith("Always false.")


async def test_unknown_paths_and_methods_are_problems_too(rest: Rest) -> None:
    unknown = await rest.ask("GET", "/nothing/here")
    wrong = await rest.ask("DELETE", "/login")

    assert (unknown.status, unknown.content_type) == (404, "application/problem+json")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert wrong.body == {
        "type": "about:blank",
        "title": "Method Not Allowed",
        "status": 405,
        "detail": "this path takes POST",
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/data-subject-requests", "errorCode", id="the Privacy API's"),
        pytest.param("/audience/upload/1/2/3", "title", id="the Audience API's, beside CRM's"),
        pytest.param("/audience", "title", id="the Audience API's own"),
        pytest.param("/audience/activate", "success", id="CRM's"),
        pytest.param("/core/ais/external-audience", "title", id="without words of the vendor's"),
    ],
)
async def test_what_meets_no_operation_is_answered_as_its_door_answers(
    rest: Rest, path: str, expected: str
) -> None:
    answer = await rest.ask("PUT", path)

    assert answer.status in (404, 405)
    assert expected in answer.body


async def test_health_is_told_without_a_token(rest: Rest) -> None:
    answers = [await rest.ask("GET", f"/health/{what}") for what in ("live", "ready")]

    assert [answer.status for answer in answers] == [200, 200]
