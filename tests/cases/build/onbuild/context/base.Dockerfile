FROM busybox
ARG WHO=base
ENV STAGE=base
WORKDIR /app
ONBUILD ARG WHO=trigger
ONBUILD COPY . /app/src
ONBUILD RUN echo "$WHO $STAGE $(ls src | wc -l)" > /app/made
ONBUILD ENV TRIGGERED=yes
ONBUILD ENTRYPOINT ["cat"]
CMD ["/app/made"]
