# The API image: the code of the training image, with the libraries that serve it and no others: neither Jupyter nor
# scikit-learn. It writes to /tmp and /dev/shm only.
ARG TRAINING_IMAGE=pmip:latest
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${TRAINING_IMAGE} AS training

FROM ${PYTHON_IMAGE}
WORKDIR /usr/src/app

# The libraries first, as in Dockerfile.train. EXTRAS=lambda,pickles adds scikit-learn, which TRUST_PICKLES=true needs.
ARG EXTRAS=lambda
COPY --from=training /usr/src/app/setup.py /usr/src/app/requirements.txt ./
RUN mkdir pmip && touch pmip/__init__.py README.md \
    && pip install --no-cache-dir --root-user-action=ignore --use-pep517 -c requirements.txt -e ".[${EXTRAS}]" \
    && pip uninstall --quiet --yes --root-user-action=ignore pip setuptools wheel \
    && rm -rf build README.md ./*.egg-info

ENV HOME=/tmp HOST=0.0.0.0 PORT=8000
EXPOSE 8000
HEALTHCHECK --start-period=20s --timeout=5s CMD ["python", "-c", "\
import http.client, os, sys; \
api = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
api.request('GET', '/healthcheck'); \
sys.exit(api.getresponse().status != 200)"]
ENTRYPOINT ["bash"]
CMD ["-c", "exec gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app"]

# From here on each build is new.
COPY --from=training /usr/src/app/LICENSE ./
COPY --from=training /usr/src/app/pmip pmip
# A build whose API cannot be loaded fails here, not on a host.
RUN gunicorn --check-config -c python:pmip.gunicorn_conf pmip.wsgi:app && rm -rf /tmp/*
ARG GIT_REVISION=
ENV GIT_REVISION=${GIT_REVISION}
USER 10001:10001
