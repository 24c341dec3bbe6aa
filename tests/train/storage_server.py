"""The emulator of Google Cloud Storage, and the header that it forgets and TensorStore reads."""

import sys

from gcp_storage_emulator.handlers import objects

whole = objects.download


def download(request, response, storage, *rest, **options):
    whole(request, response, storage, *rest, **options)
    if response.status < 300:
        found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
        response["x-goog-generation"] = found["generation"]


objects.download = download

if __name__ == "__main__":
    from gcp_storage_emulator.server import create_server

    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").run()
