"""Failure records to an S3 bucket, with the discarded records (contract C.2, C.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.stream.destinations.client import DestinationClient, Service

if TYPE_CHECKING:
    from headrace.arns import Arn
    from headrace.stream.aws import AwsAccess
    from headrace.stream.report import FailureRecord

SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second below which an upload is given up; an object may hold more than 6 MB."""

_S3 = Service("s3", "bucket", "s3:PutObject and s3:ListBucket")


class S3Bucket:
    """A bucket; its ARN has no region, so the mapping's is asked, and S3 tells when it is another one."""

    def __init__(self, arn: Arn, region: str, mapping_uid: str, access: AwsAccess) -> None:
        self._bucket = arn.resource
        self._mapping_uid = mapping_uid
        self._client = DestinationClient(_S3, arn, region, access)

    async def check(self) -> None:
        """HeadBucket."""
        await self._client.call("head_bucket", wants="ResponseMetadata", Bucket=self._bucket)

    async def publish(self, record: FailureRecord) -> None:
        """Writes one object."""
        body = record.object_body()
        await self._client.call(
            "put_object",
            wants="ETag",
            upload_seconds=len(body) / SLOWEST_UPLOAD,
            Bucket=self._bucket,
            Key=record.object_key(self._mapping_uid),
            Body=body,
            ContentType="application/octet-stream",
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
